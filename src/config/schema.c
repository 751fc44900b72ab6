/* Every key: its type, default, range and meaning.  This table is what files are checked against,
 * and what help and documentation are made from. */
#include <string.h>

#include "config/schema.h"

/* Real parameters end up in FP32, where this is the largest value below 1 that 7 digits name. */
#define BELOW_ONE 0.9999999
#define COUNT_MAX 1e9         /* steps, samples */
#define SEED_MAX (0x1p53 - 1) /* exact in every JSON reader, and so is the next one */
#define LOSS_SCALE_MAX 0x1p64 /* far above what FP16 gradients can need: 2^-24 times it is 2^40 */

static const mezzo_config_key keys[] = {
    {"model.kind", MEZZO_CONFIG_TEXT, "cnn", NULL, 0, 0, "model to train: cnn, gpt2, llama, mlp"},
    {"model.channels", MEZZO_CONFIG_INT_LIST, "[32, 64, 64]", NULL, 1, 65536,
     "cnn: output channels of each 3x3 convolution; gpt2, llama: the width, one number"},
    {"model.pool_after", MEZZO_CONFIG_INT_LIST, "[2, 3]", NULL, 1, MZI_CONFIG_ITEM_MAX,
     "cnn: convolutions, counted from 1, that a 2x2 max pooling follows"},
    {"model.hidden", MEZZO_CONFIG_INT_LIST, "[128]", NULL, 1, 1048576,
     "widths of the hidden linear layers"},
    {"model.layers", MEZZO_CONFIG_INT, "12", NULL, 1, 4096, "gpt2, llama: blocks"},
    {"model.heads", MEZZO_CONFIG_INT, "12", NULL, 1, 4096,
     "gpt2, llama: attention heads of a block"},
    {"model.kv_heads", MEZZO_CONFIG_INT, "0", NULL, 0, 4096,
     "llama: key and value heads of a block, each read by as many attention heads; 0: model.heads"},
    {"model.mlp_channels", MEZZO_CONFIG_INT, "0", NULL, 0, 1048576,
     "llama: width inside of each perceptron; 0: 8/3 of model.channels, up to a multiple of 64"},
    {"model.rope_theta", MEZZO_CONFIG_REAL, "10000", NULL, 1, 1e12,
     "llama: base of the rotary angles: position theta^(-2i/D) in a head of D channels"},
    {"model.norm_eps", MEZZO_CONFIG_REAL, "1e-5", NULL, 1e-12, 1,
     "llama: added to the mean square in each norm"},
    {"model.tied", MEZZO_CONFIG_BOOL, "true", NULL, 0, 0,
     "llama: the head is the embedding; false: a matrix of its own"},
    {"model.context", MEZZO_CONFIG_INT, "256", NULL, 1, 1048576,
     "gpt2, llama: tokens of a sample, and the longest that it can attend to"},
    {"model.vocab", MEZZO_CONFIG_INT, "0", NULL, 0, 16777216,
     "gpt2, llama: rows of the embedding; 0: the tokens of the data, up to a multiple of 64"},
    {"model.dropout", MEZZO_CONFIG_REAL, "0", NULL, 0, 0.99,
     "probability to drop an output: cnn, mlp: of a hidden layer; gpt2: of the embedding, and of "
     "what "
     "each attention and each perceptron adds"},
    {"model.activation", MEZZO_CONFIG_CHOICE, "relu", "relu|gelu", 0, 0,
     "function behind each hidden layer"},

    {"data.kind", MEZZO_CONFIG_CHOICE, "idx", "idx|text|tokens|random", 0, 0,
     "idx: images; text: a UTF-8 file; tokens: a file of token ids; random: random ids, for "
     "timing"},
    {"data.path", MEZZO_CONFIG_TEXT, "\"\"", NULL, 0, 0,
     "idx: directory of the files, compressed or not (empty: Fashion-MNIST as Debian installs it); "
     "text, tokens: the file"},
    {"data.tokenizer", MEZZO_CONFIG_TEXT, "bytes", NULL, 0, 0,
     "text: bytes, or a file: GPT-2's vocab.bpe, or a tokenizer.json; of tokens, for samples only"},
    {"data.vocab", MEZZO_CONFIG_INT, "0", NULL, 0, 16777216,
     "tokens, random: ids are below it; 0: what the file says"},
    {"data.validation", MEZZO_CONFIG_REAL, "0.1", NULL, 1e-6, 0.9,
     "text, tokens: the part at the end that is for validation"},
    {"data.validation_path", MEZZO_CONFIG_TEXT, "\"\"", NULL, 0, 0,
     "text, tokens: a file for validation instead"},
    {"data.batch", MEZZO_CONFIG_INT, "128", NULL, 1, 1048576,
     "samples of a micro-batch; a step takes train.accumulate of them"},
    {"data.limit", MEZZO_CONFIG_INT, "0", NULL, 0, COUNT_MAX,
     "use only the first training samples; 0: all"},
    {"data.test_limit", MEZZO_CONFIG_INT, "0", NULL, 0, COUNT_MAX,
     "use only the first test samples; 0: all"},
    {"data.mean", MEZZO_CONFIG_REAL, "0.2860", NULL, -1e6, 1e6,
     "subtracted from pixels scaled to 0..1 (the default is Fashion-MNIST's mean)"},
    {"data.std", MEZZO_CONFIG_REAL, "0.3530", NULL, 1e-6, 1e6,
     "divides what is left (the default is Fashion-MNIST's deviation)"},

    {"precision.compute", MEZZO_CONFIG_CHOICE, "bf16", "f32|bf16|f16", 0, 0,
     "type of matrix products, convolutions and activations"},
    {"precision.overrides", MEZZO_CONFIG_RECORD_LIST, "[]", "match:text compute:f32|bf16|f16", 0, 0,
     "operations by name pattern that compute in another type; the last match wins"},
    {"precision.master", MEZZO_CONFIG_CHOICE, "auto", "auto|f32|split|bf16", 0, 0,
     "form of the masters that are computed with in bf16; split: f32 in two halves, of which one "
     "is the bf16 weight; bf16: no more than that; auto: split"},
    {"precision.rounding", MEZZO_CONFIG_CHOICE, "stochastic", "stochastic|nearest", 0, 0,
     "of masters of bf16 at each step; nearest loses updates below half a unit in the last place"},
    {"precision.speed_gate", MEZZO_CONFIG_CHOICE, "auto", "auto|off", 0, 0,
     "auto: compute in f32 what is slower in bf16: all without instructions for it, else layers "
     "that are measured before the first step; off: bf16 all the same, which takes less memory"},
    {"precision.speed_pins", MEZZO_CONFIG_RECORD_LIST, "[]", "layer:text", 0, 0,
     "layers to hold in f32 as plan.json has them, instead of measuring"},
    {"precision.gradients", MEZZO_CONFIG_CHOICE, "auto", "auto|f32|bf16", 0, 0,
     "type of the gradients of matrices and filters that are computed in bf16; auto: bf16 if "
     "precision.compute is and a step is one micro-batch"},
    {"precision.strict", MEZZO_CONFIG_BOOL, "false", NULL, 0, 0,
     "fail if a kernel would not compute in the type asked for"},
    {"precision.lint", MEZZO_CONFIG_CHOICE, "error", "error|warn|off", 0, 0,
     "what a constant or sum that its type cannot hold does (docs/lint.md): error stops before the "
     "run, warn is logged"},
    {"precision.loss_scale.mode", MEZZO_CONFIG_CHOICE, "auto",
     "auto|none|static|headroom|pytorch|megatron|deepspeed", 0, 0,
     "whose rule moves the loss scale; auto: headroom if something computes in f16, none "
     "otherwise"},
    {"precision.loss_scale.init", MEZZO_CONFIG_REAL, "auto", "auto", 0x1p-14, LOSS_SCALE_MAX,
     "first loss scale, a power of two; auto: 65536, megatron 4294967296"},
    {"precision.loss_scale.growth", MEZZO_CONFIG_REAL, "auto", "auto", 2, 65536,
     "pytorch, megatron: factor after `interval` clean steps in a row, a power of two; auto: 2"},
    {"precision.loss_scale.backoff", MEZZO_CONFIG_REAL, "auto", "auto", 0x1p-16, 0.5,
     "pytorch, megatron: factor after an overflow, a power of two; auto: 0.5"},
    {"precision.loss_scale.interval", MEZZO_CONFIG_INT, "auto", "auto", 1, COUNT_MAX,
     "clean steps before the scale grows; headroom: attempts from one measurement to the next; "
     "auto: pytorch 2000, megatron and deepspeed 1000, headroom 16"},
    {"precision.loss_scale.min", MEZZO_CONFIG_REAL, "auto", "auto", 0x1p-64, LOSS_SCALE_MAX,
     "smallest loss scale, a power of two; auto: megatron and deepspeed 1, headroom 2^-14"},
    {"precision.loss_scale.max", MEZZO_CONFIG_REAL, "auto", "auto", 0x1p-14, LOSS_SCALE_MAX,
     "headroom: largest loss scale, a power of two; auto: 2^40"},
    {"precision.loss_scale.headroom", MEZZO_CONFIG_INT, "auto", "auto", 1, 24,
     "headroom: bits kept between the largest gradient and FP16's largest value; auto: 3"},
    {"precision.loss_scale.hysteresis", MEZZO_CONFIG_INT, "auto", "auto", 1, COUNT_MAX,
     "megatron, deepspeed: the overflow that is the first to lower the scale; auto: 2"},
    {"precision.loss_scale.consecutive_hysteresis", MEZZO_CONFIG_BOOL, "false", NULL, 0, 0,
     "deepspeed: a clean step starts that count again, not only growth"},
    {"precision.loss_scale.stop_at_min", MEZZO_CONFIG_BOOL, "true", NULL, 0, 0,
     "deepspeed: an overflow at the smallest scale ends the run (raise_error_at_min_scale)"},
    {"precision.loss_scale.segments", MEZZO_CONFIG_CHOICE, "off", "off|auto", 0, 0,
     "auto: where something computes in f16, measure gradients on the first micro-batch, and hold "
     "them at several powers of two if one scale does not do"},
    {"precision.loss_scale.pinned_segments", MEZZO_CONFIG_RECORD_LIST, "[]",
     "from:text exponent:real", -60, 60,
     "segments as plan.json has them, instead of measuring: backward operations from the one named "
     "on, and the exponent of the power of two, a whole number"},

    {"optimizer.kind", MEZZO_CONFIG_CHOICE, "adamw", "adamw|lion|muon|sgd", 0, 0,
     "how weights are updated"},
    {"optimizer.state", MEZZO_CONFIG_CHOICE, "f32", "f32|bf16", 0, 0,
     "type of the moments; bf16 is rounded stochastically"},
    {"optimizer.lr", MEZZO_CONFIG_REAL, "1e-3", NULL, 0, 1000, "learning rate at its highest"},
    {"optimizer.weight_decay", MEZZO_CONFIG_REAL, "0.01", NULL, 0, 1000,
     "decay of weights of rank 2 and more, unless a group says otherwise"},
    {"optimizer.beta1", MEZZO_CONFIG_REAL, "0.9", NULL, 0, BELOW_ONE,
     "adamw, lion: decay of the gradient's mean; of lion in the step"},
    {"optimizer.beta2", MEZZO_CONFIG_REAL, "auto", "auto", 0, BELOW_ONE,
     "adamw: decay of the gradient's mean square (auto: 0.999, in muon 0.95); lion: of its mean "
     "(auto: 0.99)"},
    {"optimizer.eps", MEZZO_CONFIG_REAL, "1e-8", NULL, 1e-30, 1,
     "adamw: added to the root of the mean square"},
    {"optimizer.momentum", MEZZO_CONFIG_REAL, "auto", "auto", 0, BELOW_ONE,
     "sgd: decay of the velocity (auto: 0.9); muon: of the gradient's mean (auto: 0.95)"},
    {"optimizer.nesterov", MEZZO_CONFIG_BOOL, "false", NULL, 0, 0,
     "sgd: step along the velocity to come"},
    {"optimizer.other_lr_scale", MEZZO_CONFIG_REAL, "0.015", NULL, 0, 1000,
     "muon: factor of the learning rate for what it leaves to adamw: tables, head, norms, biases"},
    {"optimizer.groups", MEZZO_CONFIG_RECORD_LIST, "[]",
     "match:text lr_scale:real=1 weight_decay:real=optimizer.weight_decay", 0, 1000,
     "parameters by name pattern that train by other factors; the last match wins"},

    {"schedule.kind", MEZZO_CONFIG_CHOICE, "constant", "constant|linear|cosine|wsd", 0, 0,
     "learning rate behind the warm-up"},
    {"schedule.warmup", MEZZO_CONFIG_INT, "0", NULL, 0, COUNT_MAX,
     "steps in which the learning rate rises to optimizer.lr"},
    {"schedule.lr_min", MEZZO_CONFIG_REAL, "0", NULL, 0, 1000,
     "linear, cosine, wsd: learning rate at the end"},
    {"schedule.decay", MEZZO_CONFIG_INT, "auto", "auto", 0, COUNT_MAX,
     "wsd: steps at the end in which the learning rate falls; auto: a fifth of all"},

    {"train.steps", MEZZO_CONFIG_INT, "0", NULL, 0, COUNT_MAX,
     "committed steps to train; 0: train.epochs says"},
    {"train.epochs", MEZZO_CONFIG_INT, "2", NULL, 0, COUNT_MAX,
     "passes over the training samples, if train.steps is 0"},
    {"train.seed", MEZZO_CONFIG_INT, "1", NULL, 0, SEED_MAX,
     "of initial weights, order of samples, dropout and drawn tokens"},
    {"train.clip", MEZZO_CONFIG_REAL, "0", NULL, 0, 1e9,
     "largest global gradient norm; 0: no clipping"},
    {"train.label_smoothing", MEZZO_CONFIG_REAL, "0", NULL, 0, 1,
     "part of each label that is spread over all classes, in training only"},
    {"train.accumulate", MEZZO_CONFIG_INT, "1", NULL, 1, 1048576,
     "micro-batches of a step; their gradients are summed in FP32"},
    {"train.salvage", MEZZO_CONFIG_BOOL, "true", NULL, 0, 0,
     "run a step again without the micro-batches that are not finite, unless it is by an overflow "
     "of gradients"},
    {"train.recompute", MEZZO_CONFIG_RECORD_LIST, "[]", "match:text", 0, 0,
     "forward operations by name pattern that backward makes again instead of keeping their "
     "results; "
     "the last match wins, and one behind `!` keeps"},
    {"train.memory_mib", MEZZO_CONFIG_INT, "0", NULL, 0, 1 << 30,
     "memory that the plan may take, in MiB: it recomputes what it must to fit; 0: any"},
    {"train.fuse", MEZZO_CONFIG_CHOICE, "auto", "auto|off", 0, 0,
     "several operations in one where that reads and writes less memory; off: each by itself"},
    {"train.weights", MEZZO_CONFIG_TEXT, "\"\"", NULL, 0, 0,
     "a run directory, or a safetensors file with mezzo's names, to start from; empty: random "
     "weights"},
    {"train.continue", MEZZO_CONFIG_TEXT, "\"\"", NULL, 0, 0,
     "a run directory to go on from, in any precision: weights, moments, step and place in the "
     "data; empty: a new run"},
    {"train.ema", MEZZO_CONFIG_REAL, "0", NULL, 0, BELOW_ONE,
     "decay of an average of the weights, which is evaluated and saved too; 0: none"},
    {"train.eval_every", MEZZO_CONFIG_INT, "0", NULL, 0, COUNT_MAX,
     "steps between evaluations; 0: at the end of each epoch"},
    {"train.meter_every", MEZZO_CONFIG_INT, "100", NULL, 0, COUNT_MAX,
     "commits from one measurement of all tensors and updates to the next; 0: never"},
    {"train.plateau", MEZZO_CONFIG_BOOL, "true", NULL, 0, 0,
     "say when the loss has stopped falling, and from which cause"},
    {"train.threads", MEZZO_CONFIG_INT, "auto", "auto", 0, 1024,
     "workers; auto: the CPUs that this process may use"},
    {"train.isa", MEZZO_CONFIG_CHOICE, "auto", "auto|ref|avx2|avx512|avx512_bf16", 0, 0,
     "highest instruction set to use"},

    {"run.dir", MEZZO_CONFIG_TEXT, "\"\"", NULL, 0, 0,
     "directory of the run; empty: runs/NAME-TIME"},
    {"run.name", MEZZO_CONFIG_TEXT, "run", NULL, 0, 0, "name of the run"},
    {"run.overwrite", MEZZO_CONFIG_BOOL, "false", NULL, 0, 0,
     "use a directory that already holds a run"},
};

int mzi_config_key_count(void) {
    return (int)(sizeof keys / sizeof keys[0]);
}

const mezzo_config_key *mezzo_config_key_at(int index) {
    return index >= 0 && index < mzi_config_key_count() ? &keys[index] : NULL;
}

int mzi_config_key_find(const char *path) {
    for (int i = 0; i < mzi_config_key_count(); i++)
        if (strcmp(keys[i].path, path) == 0)
            return i;
    return -1;
}

mzi_slice mzi_config_component(int index, const char *section) {
    const char *path = keys[index].path;
    size_t bytes = strlen(section);
    if (bytes > 0) {
        if (strncmp(path, section, bytes) != 0 || path[bytes] != '.')
            return (mzi_slice){path, 0};
        path += bytes + 1;
    }
    return (mzi_slice){path, strcspn(path, ".")};
}

bool mzi_config_is_section(const char *path) {
    for (int i = 0; i < mzi_config_key_count(); i++)
        if (path[0] != '\0' && mzi_config_component(i, path).bytes > 0)
            return true;
    return false;
}

bool mzi_slice_equal(mzi_slice slice, const char *text) {
    return strlen(text) == slice.bytes && memcmp(slice.text, text, slice.bytes) == 0;
}

mzi_slice mzi_slice_of(const char *text) {
    return (mzi_slice){text ? text : "", text ? strlen(text) : 0};
}

bool mzi_slice_next(mzi_slice *rest, char separator, mzi_slice *word) {
    if (rest->bytes == 0)
        return false;
    const char *end = memchr(rest->text, separator, rest->bytes);
    size_t bytes = end ? (size_t)(end - rest->text) : rest->bytes;
    *word = (mzi_slice){rest->text, bytes};
    size_t used = bytes + (end != NULL);
    *rest = (mzi_slice){rest->text + used, rest->bytes - used};
    return true;
}

static mezzo_config_type field_type(mzi_slice type) {
    if (mzi_slice_equal(type, "text"))
        return MEZZO_CONFIG_TEXT;
    return mzi_slice_equal(type, "real") ? MEZZO_CONFIG_REAL : MEZZO_CONFIG_CHOICE;
}

int mzi_config_fields(const mezzo_config_key *key, mzi_config_field fields[MZI_CONFIG_FIELD_MAX]) {
    int count = 0;
    mzi_slice rest = mzi_slice_of(key->type == MEZZO_CONFIG_RECORD_LIST ? key->choices : NULL);
    mzi_slice initial, name, type;
    while (count < MZI_CONFIG_FIELD_MAX && mzi_slice_next(&rest, ' ', &initial)) {
        if (!mzi_slice_next(&initial, ':', &name) || !mzi_slice_next(&initial, '=', &type))
            return 0;
        fields[count].name = name;
        fields[count].type = field_type(type);
        bool chosen = fields[count].type == MEZZO_CONFIG_CHOICE;
        fields[count].choices = chosen ? type : mzi_slice_of(NULL);
        fields[count].initial = initial;
        count++;
    }
    return count;
}
