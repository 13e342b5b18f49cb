#!/bin/busybox sh
# Process 1 of the guest: modules in order, network, and a loop that runs what comes over the second serial line.
# A request is one line of base64, a shell script. The answer is its output in base64 between two marks, with the exit code.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /etc /root /var/lib /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# As systemd does on every real node.
mount --make-rshared /
for module in $(cat /modules.list); do insmod "/modules/$module.ko" || echo "init: $module cannot be loaded"; done
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
hostname guest
echo '127.0.0.1 localhost guest' > /etc/hosts
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
cd /
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
