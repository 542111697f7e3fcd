/* SPDX-License-Identifier: MIT */
/* A shared object that is no module. */

int nothing(void);

int nothing(void)
{
	return 0;
}
