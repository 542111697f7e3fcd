/* SPDX-License-Identifier: MIT */
/* Reads tables that others have written: CSV as spreadsheets and psql make it, and what pg_dump writes of a table. What the columns
 * mean is not known here. */

#include "tools/ctl_table.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE_MAX_BYTES (1 << 28)
#define TABLE_NAME "host_users"

static int fault(const struct table *table, long line, const char *what)
{
	ctl_error("%s: line %ld: %s", table->path, line, what);
	return -EINVAL;
}

/* ---- the file ---- */

static int read_file(struct table *table)
{
	struct stat st;
	int fd = open(table->path, O_RDONLY | O_CLOEXEC);
	int rc = fd < 0 || fstat(fd, &st) < 0 ? -errno : !S_ISREG(st.st_mode) ? -EINVAL : st.st_size > SIZE_MAX_BYTES ? -EFBIG : 0;
	size_t size = rc < 0 ? 0 : (size_t)st.st_size, len = 0;
	table->data = rc < 0 ? NULL : calloc(1, size + 2); /* a line end and a NUL may come behind */
	rc = rc == 0 && !table->data ? -ENOMEM : rc;
	while (rc == 0 && len < size) {
		ssize_t n = read(fd, table->data + len, size - len);
		rc = n < 0 ? -errno : n == 0 ? -EIO : 0;
		len += n > 0 ? (size_t)n : 0;
	}
	if (fd >= 0) {
		close(fd);
	}
	if (rc < 0) {
		ctl_error("%s: %s", table->path, strerror(-rc));
		return rc;
	}
	table->at = table->data;
	table->end = table->data + size;
	if (size && memchr(table->data, '\0', size)) {
		ctl_error("%s: it is no text: there are NUL bytes in it", table->path);
		return -EINVAL;
	}
	return 0;
}

/* Ends the line at AT with a NUL, without CR, and goes on to the next. NULL: no more. */
static char *next_line(struct table *table)
{
	if (table->at >= table->end) {
		return NULL;
	}
	char *line = table->at, *newline = memchr(line, '\n', (size_t)(table->end - line));
	char *stop = newline ? newline : table->end;
	table->at = newline ? newline + 1 : table->end;
	table->line++;
	*stop = '\0';
	if (stop > line && stop[-1] == '\r') {
		stop[-1] = '\0';
	}
	return line;
}

/* ---- CSV ---- */

/* One field from AT on, unquoted in its place; what ended it goes to *MARK: the separator, '\n', or 0 at the end of the file. */
static char *next_field(struct table *table, char *mark, const char **wrong)
{
	char *at = table->at, *field = at, *out = at;
	bool quoted = at < table->end && *at == '"';
	at += quoted;
	while (at < table->end) {
		if (quoted && *at == '"' && at + 1 < table->end && at[1] == '"') {
			at++;
		} else if (quoted && *at == '"') {
			quoted = false;
			at++;
			bool over = at == table->end || *at == table->separator || *at == '\n' || (*at == '\r' && at[1] == '\n');
			*wrong = over ? *wrong : "a quote has something behind it";
			break;
		} else if (!quoted && (*at == table->separator || *at == '\n')) {
			break;
		}
		table->line += *at == '\n';
		*out++ = *at++;
	}
	*wrong = quoted ? "a quote is not closed" : *wrong;
	at += at < table->end && *at == '\r' && at[1] == '\n';
	out -= out > field && at < table->end && *at == '\n' && out == at && out[-1] == '\r';
	*mark = at < table->end ? *at : '\0';
	table->at = at < table->end ? at + 1 : at;
	*out = '\0';
	return field;
}

/* A row has FIELDS_MAX fields at most. How many, 0: no more, -errno. */
static int next_csv(struct table *table, char **fields, long *line)
{
	const char *wrong = NULL;
	char mark = table->separator;
	int n = 0;
	while (table->at < table->end && (*table->at == '\n' || (*table->at == '\r' && table->at[1] == '\n'))) {
		table->at += *table->at == '\r' ? 2 : 1; /* an empty line */
		table->line++;
	}
	*line = table->line + 1;
	if (table->at >= table->end) {
		return 0;
	}
	while (mark == table->separator && !wrong) {
		char *field = next_field(table, &mark, &wrong);
		if (n < TABLE_COLUMNS) {
			fields[n] = field;
		}
		n++;
	}
	table->line += mark == '\n' || mark == '\0';
	return wrong ? fault(table, *line, wrong) : n;
}

static int open_csv(struct table *table)
{
	char *fields[TABLE_COLUMNS];
	long line;
	char *newline = strchr(table->at, '\n');
	char *tab = strchr(table->at, '\t'), *comma = strchr(table->at, ','), *semicolon = strchr(table->at, ';');
	bool has_comma = comma && (!newline || comma < newline);
	table->separator = has_comma ? ',' : tab && (!newline || tab < newline) ? '\t' : semicolon && (!newline || semicolon < newline) ? ';' : ',';
	int n = next_csv(table, fields, &line);
	if (n == 0) {
		ctl_error("%s: it is empty; its first line has to have the names of the columns", table->path);
	}
	if (n <= 0 || n > TABLE_COLUMNS) {
		return n > 0 ? fault(table, line, "too many columns") : -EINVAL;
	}
	memcpy(table->titles, fields, (size_t)n * sizeof(*fields));
	table->columns = (size_t)n;
	return 0;
}

/* ---- dumps ---- */

/* "COPY public.host_users (id, host_id, ...) FROM stdin;" */
static bool is_copy(const char *line)
{
	const char *at = strncasecmp(line, "COPY ", 5) == 0 ? line + 5 : NULL;
	const char *open = at ? strchr(at, '(') : NULL;
	const char *name = at ? strstr(at, TABLE_NAME) : NULL;
	const char *end = name ? name + strlen(TABLE_NAME) : NULL;
	return open && name && name < open && (name == at || name[-1] == '.' || name[-1] == '"') && (*end == ' ' || *end == '"') &&
	       strstr(open, "FROM stdin");
}

static int open_copy(struct table *table, char *line)
{
	char *rest = NULL, *titles = strchr(line, '(') + 1, *end = strchr(titles, ')');
	if (!end) {
		return fault(table, table->line, "the names of the columns have no end");
	}
	*end = '\0';
	for (char *title = strtok_r(titles, ", \"", &rest); title; title = strtok_r(NULL, ", \"", &rest)) {
		if (table->columns == TABLE_COLUMNS) {
			return fault(table, table->line, "too many columns");
		}
		table->titles[table->columns++] = title;
	}
	return 0;
}

static int open_dump(struct table *table)
{
	char *line = next_line(table);
	while (line && !is_copy(line)) {
		line = next_line(table);
	}
	if (!line) {
		ctl_error("%s: a dump, but without COPY ... " TABLE_NAME " (...) FROM stdin; make it with pg_dump -t " TABLE_NAME, table->path);
		return -EINVAL;
	}
	return open_copy(table, line);
}

/* \N alone is NULL. */
static char *unescape(char *field)
{
	static const char from[] = "bfnrtv", to[] = "\b\f\n\r\t\v";
	char *out = field;
	if (strcmp(field, "\\N") == 0) {
		return NULL;
	}
	for (const char *at = field; *at; at++) {
		const char *known = *at == '\\' && at[1] ? strchr(from, at[1]) : NULL;
		at += *at == '\\' && at[1];
		*out++ = known ? to[known - from] : *at;
	}
	*out = '\0';
	return field;
}

static int next_dump(struct table *table, char **fields, long *number)
{
	char *line = next_line(table);
	int n = 0;
	*number = table->line;
	if (!line) {
		return fault(table, table->line, "the dump ends in the middle of the table");
	}
	if (strcmp(line, "\\.") == 0) {
		table->done = true;
		return 0;
	}
	for (char *field = line, *tab; field; field = tab ? tab + 1 : NULL) {
		tab = strchr(field, '\t');
		if (tab) {
			*tab = '\0';
		}
		if (n < TABLE_COLUMNS) {
			fields[n] = unescape(field);
		}
		n++;
	}
	return n;
}

/* ---- both ---- */

int table_open(struct table *table, const char *path)
{
	*table = (struct table){ .path = path };
	int rc = read_file(table);
	if (rc < 0) {
		return rc;
	}
	if (strncmp(table->at, "\xef\xbb\xbf", 3) == 0) {
		table->at += 3;
	}
	const char *first = table->at + strspn(table->at, " \t\r\n");
	table->dump = strncmp(first, "--", 2) == 0 || strncasecmp(first, "COPY ", 5) == 0 || strncasecmp(first, "SET ", 4) == 0 || *first == '\\';
	return table->dump ? open_dump(table) : open_csv(table);
}

int table_next(struct table *table, char **fields, long *line)
{
	char *found[TABLE_COLUMNS];
	int n = table->done ? 0 : table->dump ? next_dump(table, found, line) : next_csv(table, found, line);
	if (n <= 0) {
		return n;
	}
	if ((size_t)n != table->columns) {
		ctl_error("%s: line %ld: %d fields, and %zu columns", table->path, *line, n, table->columns);
		return -EINVAL;
	}
	memcpy(fields, found, (size_t)n * sizeof(*fields));
	return 1;
}

void table_close(struct table *table)
{
	if (table->data) {
		explicit_bzero(table->data, (size_t)(table->end - table->data));
	}
	free(table->data);
	table->data = NULL;
}
