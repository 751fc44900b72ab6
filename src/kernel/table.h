/* Prototypes of every kernel in kernels.def, so that a fast kernel can leave storage types it has
 * no loop for to `ref`. */
#ifndef MZK_TABLE_H
#define MZK_TABLE_H

#include "kernel/families.h"

#define KERNEL(family, impl, equality) mzk_fn mzk_##family##_##impl;
#include "kernel/kernels.def"
#undef KERNEL

#endif
