#!/bin/busybox sh
# Process 1 of the guest: modules in order, network, then line.sh. Where the image has systemd, that becomes process 1 and starts line.sh.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /etc /root /var/lib /usr/bin /usr/sbin /sbin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
# Debian's initramfs mounts it so, and systemd leaves it.
mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs /run
systemd=/lib/systemd/systemd
[ -x $systemd ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup
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
[ -x $systemd ] && exec $systemd
exec sh /line.sh
