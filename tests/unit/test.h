/* SPDX-License-Identifier: MIT */
/* What cmocka wants to have included before it, in the order it wants. */
#ifndef STK_TESTS_UNIT_TEST_H
#define STK_TESTS_UNIT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#endif
