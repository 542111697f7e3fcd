# SPDX-License-Identifier: MIT

# STK_FLAGS_ADD(VARIABLE, FLAG...): appends each flag that the C compiler takes without a warning.
AC_DEFUN([STK_FLAGS_ADD], [
	m4_foreach_w([stk_flag], [$2], [
		AC_MSG_CHECKING([whether $CC takes stk_flag])
		stk_saved_cflags=$CFLAGS
		CFLAGS="$CFLAGS -Werror stk_flag"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])],
			[AC_MSG_RESULT([yes]); $1="$$1 stk_flag"], [AC_MSG_RESULT([no])])
		CFLAGS=$stk_saved_cflags
	])
])

# STK_SANITIZER: --enable-sanitizer=LIST for the whole build; sets stk_sanitizer.
AC_DEFUN([STK_SANITIZER], [
	AC_ARG_ENABLE([sanitizer], [AS_HELP_STRING([--enable-sanitizer=LIST],
		[build with sanitizers: address,undefined or thread])], [], [enable_sanitizer=no])
	AS_IF([test "x$enable_sanitizer" = xyes], [enable_sanitizer=address,undefined])
	AS_IF([test "x$enable_sanitizer" != xno], [
		STK_SAN_FLAGS="-fsanitize=$enable_sanitizer -fno-omit-frame-pointer -fno-sanitize-recover=undefined"
		stk_saved_cflags=$CFLAGS
		CFLAGS="$CFLAGS $STK_SAN_FLAGS"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [], [AC_MSG_ERROR([$CC cannot build with -fsanitize=$enable_sanitizer])])
		CFLAGS=$stk_saved_cflags
	])
	AC_SUBST([STK_SAN_FLAGS])
	stk_sanitizer=$enable_sanitizer
])

# STK_FUZZER: --enable-fuzzer links the fuzz targets with libFuzzer (clang only).
AC_DEFUN([STK_FUZZER], [
	AC_ARG_ENABLE([fuzzer], [AS_HELP_STRING([--enable-fuzzer],
		[link tests/fuzz with libFuzzer (clang); without it the targets only replay their corpus])], [], [enable_fuzzer=no])
	AS_IF([test "x$enable_fuzzer" != xno], [
		stk_saved_cflags=$CFLAGS
		CFLAGS="$CFLAGS -fsanitize=fuzzer-no-link"
		AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [], [AC_MSG_ERROR([$CC has no libFuzzer; configure with CC=clang])])
		CFLAGS=$stk_saved_cflags
		STK_SAN_FLAGS="$STK_SAN_FLAGS -fsanitize=fuzzer-no-link"
		STK_FUZZ_LDFLAGS=-fsanitize=fuzzer
	])
	AC_SUBST([STK_FUZZ_LDFLAGS])
	AM_CONDITIONAL([FUZZER], [test "x$enable_fuzzer" != xno])
])

# STK_COVERAGE: --enable-coverage for gcov.
AC_DEFUN([STK_COVERAGE], [
	AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [build for gcov])], [], [enable_coverage=no])
	AS_IF([test "x$enable_coverage" != xno], [STK_COV_FLAGS=--coverage])
	AC_SUBST([STK_COV_FLAGS])
	AM_CONDITIONAL([COVERAGE], [test "x$enable_coverage" != xno])
])

# STK_LIBRARY(VARIABLE, LIBRARY, FUNCTION, HEADER, PACKAGE): a library without a pkg-config file.
AC_DEFUN([STK_LIBRARY], [
	stk_saved_libs=$LIBS
	AC_CHECK_HEADER([$4], [], [AC_MSG_ERROR([$4 not found; Debian has it in $5])])
	AC_CHECK_LIB([$2], [$3], [$1=-l$2], [AC_MSG_ERROR([lib$2 not found; Debian has it in $5])])
	AC_SUBST([$1])
	LIBS=$stk_saved_libs
])
