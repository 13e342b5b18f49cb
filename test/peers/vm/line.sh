#!/bin/sh
# Runs what comes over the second serial line. A request is one line of base64, a shell script. The answer is its output in base64 between
# two marks, with the exit code.
stty -F /dev/ttyS1 raw -echo
exec 3<> /dev/ttyS1
echo '@ready' >&3
while read -r request <&3; do
  echo "$request" | base64 -d > /tmp/.request
  sh /tmp/.request > /tmp/.output 2>&1 < /dev/null 3<&-
  code=$?
  { echo "@output"; base64 /tmp/.output; echo "@code $code"; } >&3
done
poweroff -f
