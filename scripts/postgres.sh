#!/bin/sh
# Makes sure that PostgreSQL's programs are on this machine: silent when they
# are, installs them where that is allowed, else says what to type (exit 69).
set -u

found() {
	for dir in $(dirname "$(command -v initdb 2>/dev/null || echo /nonexistent/initdb)") \
		/usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* /usr/local/pgsql/bin \
		/opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin; do
		[ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] || continue
		major=$("$dir/postgres" --version 2>/dev/null | sed -n 's/.*PostgreSQL) \([0-9]*\).*/\1/p')
		[ "${major:-0}" -ge 14 ] && return 0
	done
	return 1
}

found && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "PostgreSQL's programs are missing: installing the package postgresql" >&2
	# The package would start a server on port 5432, which nobody asked for. Where
	# no PostgreSQL is configured yet, its own setting for that is put first.
	conf=/etc/postgresql-common/createcluster.conf
	if [ ! -e "$conf" ]; then
		mkdir -p "$(dirname "$conf")" && echo 'create_main_cluster = false' >"$conf"
	fi
	export DEBIAN_FRONTEND=noninteractive
	{ apt-get update -q && apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold postgresql; } >&2
elif [ "$(id -u)" = 0 ] && command -v dnf >/dev/null 2>&1; then
	echo "PostgreSQL's programs are missing: installing the package postgresql-server" >&2
	dnf install -y postgresql-server >&2
elif [ "$(id -u)" = 0 ] && command -v apk >/dev/null 2>&1; then
	echo "PostgreSQL's programs are missing: installing the package postgresql" >&2
	apk add postgresql >&2
elif command -v brew >/dev/null 2>&1; then
	echo "PostgreSQL's programs are missing: installing the formula postgresql@17" >&2
	brew install postgresql@17 >&2
fi

found && exit 0
cat >&2 <<'TEXT'
PostgreSQL's programs (initdb, postgres; 14 or newer) are missing. Type one of
  sudo apt-get install postgresql        (Debian, Ubuntu)
  sudo dnf install postgresql-server     (Fedora)
  sudo apk add postgresql                (Alpine)
  brew install postgresql@17             (macOS)
and run this again.
TEXT
exit 69
