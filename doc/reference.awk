# SPDX-License-Identifier: MIT
# Fills the reference of the interface into startalkd-module.7.in: the line "@reference@" becomes what the installed headers declare
# and say of it, in their order. Variables: headers, the files, parted by spaces.
# A comment belongs to the declarations below it, up to a blank line or the next comment.

function escape(text) {
	gsub(/\\/, "\\e", text)
	gsub(/-/, "\\-", text)
	gsub(/'/, "\\(aq", text)
	sub(/^\./, "\\\\\\&.", text)
	return text
}

function die(why) {
	print "reference.awk: " why > "/dev/stderr"
	failed = 1
	exit 1
}

function trim(text) {
	sub(/^[ \t]+/, "", text)
	sub(/[ \t]+$/, "", text)
	return text
}

# The words of a comment, without its marks.
function words_of(comment) {
	gsub(/\/\*|\*\//, "", comment)
	gsub(/[ \t]+/, " ", comment)
	return trim(comment)
}

# A line of a struct or enum; one that is too long gets its comment below it.
function block_line(line, at, indent, text, words, n, i, out) {
	gsub(/\t/, "    ", line)
	if (length(line) <= 76) {
		return escape(line) "\n"
	}
	match(line, /^ */)
	indent = substr(line, 1, RLENGTH)
	at = index(line, "/*")
	if (at && trim(substr(line, 1, at - 1)) != "") {
		out = escape(substr(line, 1, at - 1)) "\n"
		indent = indent "        "
		line = substr(line, at)
	}
	n = split(line, words, " ")
	text = ""
	for (i = 1; i <= n; i++) {
		if (text != "" && length(indent text) + 1 + length(words[i]) > 76) {
			out = out escape(indent text) "\n"
			text = ""
		}
		text = text == "" ? words[i] : text " " words[i]
	}
	return out escape(indent text) "\n"
}

# TEXT, to be filled, in which names are not hyphenated.
function filled(text, words, n, i, out) {
	n = split(text, words, " ")
	for (i = 1; i <= n; i++) {
		out = out (i > 1 ? " " : "") (words[i] ~ /[_A-Z]/ ? "\\%" : "") escape(words[i])
	}
	return out
}

function print_text(text) {
	if (text != "") {
		print filled(text)
	}
}

# What was gathered: a comment, and declarations with comments of their own.
function flush(i, bare, was_bare) {
	if (count == 1 && kind[1] == "line") {
		note[1] = trim(comment " " note[1])
		comment = ""
	}
	if (comment != "") {
		print ".PP"
		print_text(comment)
	}
	for (i = 1; i <= count; i++) {
		bare = kind[i] == "line" && note[i] == ""
		print (bare && was_bare ? ".br" : ".PP")
		was_bare = bare
		if (kind[i] == "block") {
			print ".EX"
			printf "%s", decl[i]
			print ".EE"
			continue
		}
		print ".B " filled(decl[i])
		if (note[i] != "") {
			print ".RS"
			print_text(note[i])
			print ".RE"
		}
	}
	comment = ""
	count = 0
}

function add(what, text, said) {
	count++
	kind[count] = what
	decl[count] = text
	note[count] = said
}

# One line of code at the top level, perhaps with a comment behind it.
function read_line(line, at, said) {
	at = index(line, "/*")
	said = at ? words_of(substr(line, at)) : ""
	line = trim(at ? substr(line, 1, at - 1) : line)
	gsub(/[ \t]+/, " ", line)
	add("line", line, said)
}

# LINE with all of the comment that begins in it.
function whole_comment(line, file, more) {
	while (line ~ /\/\*/ && line !~ /\*\// && (getline more < file) > 0) {
		sub(/^[ \t]*\*?[ \t]*/, "", more)
		line = line " " more
	}
	return line
}

function read_header(file, line, text, opened, name) {
	name = file
	sub(/.*\//, "", name)
	print ".SS <startalkd/" escape(name) ">"
	while ((getline line < file) > 0) {
		opened = 1
		if (line ~ /^#define .*\\$/) { # a macro's body is nobody's business
			sub(/[ \t]*\\$/, "", line)
			read_line(line)
			while (line != "" && (getline line < file) > 0 && line ~ /\\$/) {
			}
		} else if (line ~ /^#define STARTALKD_/ || line ~ /^#(if|ifdef|ifndef|endif|include)/ || line ~ /SPDX/ ||
		           line ~ /^extern "C"/ || line ~ /^}$/) {
			continue
		} else if (line ~ /^[ \t]*$/) {
			flush()
		} else if (line ~ /^\/\*/) {
			flush()
			comment = words_of(whole_comment(line, file))
		} else if (line ~ /\{[ \t]*(\/\*.*)?$/) {
			text = block_line(line)
			while ((getline line < file) > 0 && line !~ /^}/) {
				text = text block_line(whole_comment(line, file))
			}
			add("block", text escape(line) "\n", "")
		} else {
			while (line ~ /^[^#]/ && line !~ /;/ && (getline text < file) > 0) {
				line = line " " trim(text)
			}
			read_line(whole_comment(line, file))
		}
	}
	close(file)
	flush()
	if (!opened) {
		die("cannot read " file)
	}
}

$0 == "@reference@" {
	n = split(headers, files, " ")
	for (f = 1; f <= n; f++) {
		read_header(files[f])
	}
	next
}

{ print }

END { exit failed }
