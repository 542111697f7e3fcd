/* SPDX-License-Identifier: MIT */
/* Runs files through a fuzz target where there is no libFuzzer, so that what it once found stays found. Takes files and
 * directories (of files); owns nothing of the target. */

#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path, size_t *count)
{
	FILE *file = fopen(path, "rb");
	struct stat about;
	if (!file || fstat(fileno(file), &about) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		if (file) {
			fclose(file);
		}
		return -1;
	}
	size_t size = (size_t)about.st_size;
	uint8_t *data = malloc(size ? size : 1);
	int rc = data && fread(data, 1, size, file) == size ? 0 : -1;
	fclose(file);
	if (rc == 0) {
		LLVMFuzzerTestOneInput(data, size);
		++*count;
	} else {
		fprintf(stderr, "%s: cannot be read\n", path);
	}
	free(data);
	return rc;
}

static int run_directory(const char *path, size_t *count)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int rc = 0;
	if (!directory) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	while ((entry = readdir(directory))) {
		char name[4096];
		if (entry->d_name[0] == '.') {
			continue;
		}
		int len = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (len < 0 || (size_t)len >= sizeof(name) || run_file(name, count) < 0) {
			rc = -1;
		}
	}
	closedir(directory);
	return rc;
}

int main(int argc, char **argv)
{
	size_t count = 0;
	int rc = 0;
	for (int i = 1; i < argc; i++) {
		struct stat about;
		int one = stat(argv[i], &about) == 0 && S_ISDIR(about.st_mode) ? run_directory(argv[i], &count)
									       : run_file(argv[i], &count);
		rc = one < 0 ? 1 : rc;
	}
	printf("%zu inputs\n", count);
	return rc;
}
