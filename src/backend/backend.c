#include "backend/backend.h"

#include <string.h>

#include "backend/cpu/cpu.h"
#include "backend/ref/ref.h"

mezzo_status mzi_backend_create(mzi_backend **out, mezzo_ctx *ctx, const char *device) {
    if (!device || strcmp(device, "cpu") == 0)
        return mzi_cpu_backend_create(out, ctx);
    if (strcmp(device, "ref") == 0)
        return mzi_ref_backend_create(out, ctx);
    MZI_FAIL(ctx, MEZZO_UNSUPPORTED, "device \"%s\": this build has cpu and ref", device);
}
