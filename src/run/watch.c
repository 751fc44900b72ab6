#include "run/watch.h"

#include <math.h>
#include <string.h>

/* Beyond this share of stalled updates a run is told. */
static const double STALLED_SHARE = 0.5;
/* Below this share of the highest rate updates are tiny by design: a schedule starts or ends. */
static const double RATE_ENDS = 0.01;
/* Words of an input that a digest reads, spread over its samples. */
enum {
    DIGEST_WORDS = 1024
};

void mzi_watch_init(mzi_watch *w, const mzi_experiment *e) {
    *w = (mzi_watch){.e = e, .stalled = (double)NAN};
    mzi_plateau_init(&w->plateau, mezzo_config_bool(e->config, "train.plateau") ? e->steps : 0);
}

/* FNV-1a over words, with a shift that brings high bits down. */
static uint64_t mix(uint64_t digest, uint32_t word) {
    digest = (digest ^ word) * 0x100000001b3u;
    return digest ^ digest >> 29;
}

/* Some words of each sample, spread over it.  Samples are added, since an epoch of one batch brings
 * the same ones in another order. */
static uint64_t digest_of(const mzi_feed *feed, int64_t samples) {
    uint64_t sum = 0;
    int64_t most = samples < DIGEST_WORDS ? DIGEST_WORDS / samples : 1;
    for (int64_t s = 0; s < samples; s++) {
        uint64_t digest = 0xcbf29ce484222325u;
        for (int k = 0; k < 2; k++) {
            int64_t words = (int64_t)(feed->inputs[k].bytes / sizeof(uint32_t)) / samples;
            int64_t picks = words < most ? words : most;
            for (int64_t j = 0; j < picks; j++) {
                int64_t place = s * words + (2 * j + 1) * words / (2 * picks);
                uint32_t word;
                memcpy(&word, (const char *)feed->inputs[k].data + (size_t)place * sizeof word,
                       sizeof word);
                digest = mix(digest, word);
            }
        }
        sum += digest;
    }
    return sum;
}

void mzi_watch_feed(mzi_watch *w, const mzi_feed *feed) {
    w->has_input = mzi_plateau_wants_input(&w->plateau);
    if (w->has_input)
        w->input = digest_of(feed, w->e->data.step_batch);
}

static double share_of(const mezzo_stall *stall) {
    return stall->counted ? (double)stall->stalled / (double)stall->counted : 0.0;
}

static mezzo_status note_stall(mzi_watch *w, mzi_run_dir *dir, const mezzo_step_result *r) {
    mezzo_stall stall, worst = {.param = ""};
    for (int k = 0; mezzo_trainer_stall(w->e->trainer, k, &stall); k++)
        if (share_of(&stall) > share_of(&worst))
            worst = stall;
    const mzi_field fields[] = {{"share", NULL, r->stalled},
                                {"parameter", worst.param, 0.0},
                                {"parameter_share", NULL, share_of(&worst)},
                                {"lr", NULL, r->lr}};
    MZI_TRY(mzi_run_dir_event(dir, r->step, r->attempt, "stall", fields, 4));
    if (w->has_warned || r->lr < RATE_ENDS * w->lr_max)
        return MEZZO_OK;
    w->has_warned = true;
    mzi_log(w->e->ctx, MEZZO_LOG_WARNING,
            "step %lld: %.0f %% of the weights were left as they were, since their updates are "
            "below half an ulp (most of all `%s`, %.0f %%; learning rate %g): raise optimizer.lr, "
            "or keep the weights in a wider type",
            (long long)r->step, 100.0 * r->stalled, worst.param, 100.0 * share_of(&worst), r->lr);
    return MEZZO_OK;
}

/* What it is, and the way out. */
static const char *hint_of(const mzi_plateau_finding *f) {
    switch (f->cause) {
    case MZI_PLATEAU_SKIPPED:
        return "every step is skipped: look for NaN in the data, lower optimizer.lr or "
               "precision.loss_scale.init, or compute in bf16";
    case MZI_PLATEAU_RATE:
        return f->had_rate ? "the learning rate has come to 0: end the run, or give the schedule "
                             "more steps or an lr_min"
                           : "the learning rate is 0: set optimizer.lr";
    case MZI_PLATEAU_FROZEN:
        return "no parameter is trained: optimizer.groups freeze all, or "
               "optimizer.other_lr_scale is 0";
    case MZI_PLATEAU_GRADIENT:
        return "gradients are zero or underflow: with f16 scale the loss "
               "(precision.loss_scale.mode) or compute in bf16; in f32 a layer passes nothing on";
    case MZI_PLATEAU_STALL:
        return "updates are below half an ulp of the weights: raise optimizer.lr, or keep the "
               "weights in a wider type";
    case MZI_PLATEAU_INPUT:
        return "every step gets the same batch: raise data.limit, or look at the data";
    case MZI_PLATEAU_UNKNOWN:
    case MZI_PLATEAU_NONE:
        break;
    }
    return f->fall < -f->noise ? "nothing found but a loss that rises: lower optimizer.lr"
                               : "nothing found: converged, or optimizer.lr is too small or too "
                                 "large";
}

static mezzo_status note_plateau(mzi_watch *w, mzi_run_dir *dir, const mezzo_step_result *r,
                                 const mzi_plateau_finding *f) {
    bool warns = f->cause != MZI_PLATEAU_UNKNOWN;
    const mzi_field fields[] = {{"cause", mzi_plateau_word(f->cause), 0.0},
                                {"level", warns ? "warning" : "info", 0.0},
                                {"attempts", NULL, (double)f->attempts},
                                {"loss", NULL, f->loss},
                                {"fall", NULL, f->fall},
                                {"noise", NULL, f->noise},
                                {"lr", NULL, f->last.lr},
                                {"grad_norm", NULL, f->last.grad_norm},
                                {"underflow", NULL, f->last.underflow},
                                {"stalled", NULL, f->last.stalled},
                                {"hint", hint_of(f), 0.0}};
    mzi_log(w->e->ctx, warns ? MEZZO_LOG_WARNING : MEZZO_LOG_INFO,
            "step %lld: no progress in %lld attempts (loss %g): %s", (long long)r->step,
            (long long)f->attempts, f->loss, hint_of(f));
    return mzi_run_dir_event(dir, r->step, r->attempt, "plateau", fields,
                             (int)(sizeof fields / sizeof *fields));
}

mezzo_status mzi_watch_step(mzi_watch *w, mzi_run_dir *dir, const mezzo_step_result *r) {
    mzi_plateau_finding found;
    w->lr_max = fmax(w->lr_max, r->lr);
    if (!isnan(r->stalled))
        w->stalled = r->stalled;
    if (r->stalled > STALLED_SHARE)
        MZI_TRY(note_stall(w, dir, r));
    const mzi_metrics *m = &w->e->ctx->metrics;
    bool has_underflow = mzi_metric_is_set(m, MZI_METRIC_gradient_underflow);
    const mzi_plateau_facts facts = {
        .skipped = r->skipped,
        .loss = r->loss,
        .lr = r->lr,
        .grad_norm = r->grad_norm,
        .underflow = has_underflow ? mzi_metric_get(m, MZI_METRIC_gradient_underflow) : (double)NAN,
        .stalled = w->stalled,
        .any_trained = mezzo_trainer_trained_count(w->e->trainer) > 0,
        .has_input = w->has_input,
        .input = w->input};
    if (!mzi_plateau_step(&w->plateau, &facts, &found))
        return MEZZO_OK;
    return note_plateau(w, dir, r, &found);
}
