#!/bin/sh
# Words with GNU parallel and the tools of every system: shell_words.sh FOLDER OUT WORKERS sort|awk
# One job a file: its words are sorted and counted, or counted in awk's table; the counts are summed up and sorted in the end.
# A file's first line never belongs to a word of the file before: each file is counted by itself.
set -eu
export LC_ALL=C
folder=$1 out=$2 workers=$3 how=$4
case $how in
sort) count='tr -s "[:space:]" "\n" <{} | grep . | sort -S 512M | uniq -c' ;;
awk) count='tr -s "[:space:]" "\n" <{} | grep . | awk "{ n[\$0]++ } END { for (word in n) print n[word], word }"' ;;
esac
parallel --no-notice -j "$workers" "$count" ::: "$folder"/*.txt |
    awk '{ n[$2] += $1 } END { for (word in n) printf "%d %s\n", n[word], word }' |
    sort -k1,1nr -k2 >"$out"
sync "$out"
