#!/bin/busybox sh
# First process of the guest. Gives the tests the host's files, writable and yet untouched, and ends the
# machine. What it cannot do ends this script, which is a panic, which ends the machine.
set -eu
/bin/busybox --install -s /bin
export PATH=/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do
    insmod "$module"
done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro root /host
mount -t tmpfs tmpfs /over
mkdir /over/upper /over/work
mount -t overlay -o lowerdir=/host,upperdir=/over/upper,workdir=/over/work overlay /root

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t bpf bpf /root/sys/fs/bpf
mount -t devtmpfs dev /root/dev
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts devpts /root/dev/pts
mount -t tmpfs tmpfs /root/dev/shm
mount -t tmpfs tmpfs /root/run
# Not over /tmp: the repository may be in there.
mkdir /root/run/tmp
ip link set lo up

cp /tests.sh /root/run/tests.sh
echo "guest: release $(uname -r)"
env -i CI=1 GEODNS_SKIPS=/run/skips HOME=/root TMPDIR=/run/tmp \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    chroot /root /bin/sh /run/tests.sh
if [ -s /root/run/skips ]; then
    sed 's/^/guest: skipped /' /root/run/skips
fi
# A kernel that warned or oopsed has not passed, whatever the tests say.
if [ $(($(cat /proc/sys/kernel/tainted) & 640)) != 0 ]; then
    dmesg | grep -A 40 -E 'WARNING:|BUG:|Oops' || true
    echo "guest: complained"
fi
echo "guest: done"
poweroff -f
