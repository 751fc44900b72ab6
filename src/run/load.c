#include "run/load.h"

#include "base/ctx.h"

bool mzi_load_warning(const mzi_load *load, mzi_load_kind kind, char out[MZI_LOAD_TEXT]) {
    switch (kind) {
    case MZI_LOAD_THREADS:
        mzi_format(out, MZI_LOAD_TEXT,
                   "%d threads on %d CPUs get in each other's way: leave train.threads at auto",
                   load->threads, load->cpus);
        return load->threads > load->cpus;
    case MZI_LOAD_QUOTA:
        mzi_format(
            out, MZI_LOAD_TEXT,
            "the control group allows %.2f CPUs, and %d threads use that up early in each of "
            "its periods and then stand still: give it whole CPUs, or set train.threads to "
            "%d",
            (double)load->quota_milli / 1000.0, load->threads,
            load->quota_milli < 2000 ? 1 : (int)(load->quota_milli / 1000));
        return load->quota_milli != UINT64_MAX && load->threads > 1 &&
               (uint64_t)load->threads * 1000 > load->quota_milli;
    case MZI_LOAD_OTHERS:
        mzi_format(
            out, MZI_LOAD_TEXT,
            "%.1f threads want the %ld CPUs of this machine: with one of them busy elsewhere "
            "a step may take twice as long",
            load->average, load->cpus_online);
        return load->average > (double)load->cpus_online;
    case MZI_LOAD_WARNINGS:
        break;
    }
    return false;
}
