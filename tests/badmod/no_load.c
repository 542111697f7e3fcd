/* SPDX-License-Identifier: MIT */
/* Cannot be loaded, since it has no load(). */

#include "bad.h"

STK_MODULE(.name = "no_load");
