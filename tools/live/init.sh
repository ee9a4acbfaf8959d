#!/bin/busybox sh
# The only program of a live guest. The kernel hands it what its command line names in capitals: DISK and EDU, the PCI functions that Remora
# serves, and FAULT, an address that is mapped for nobody. What it finds goes to the kernel's log, which needs no interrupt to be printed.
. /lib/guest.sh

device=/dev/nvme0n1
functions=/sys/bus/pci/devices

# sum_of COUNT SKIP: of 64 KiB blocks of the disk, past the page cache.
sum_of() { dd if=$device bs=64k count="$1" skip="$2" iflag=direct 2>/dev/null | sum; }

await_disk() {
  tries=0
  while [ ! -b $device ]; do
    tries=$((tries + 1))
    if [ $tries -gt 150 ]; then
      say no disk
      reboot -f
    fi
    sleep 0.1
  done
}

say kernel "$(uname -r)"
say processors "$(nproc)"
await_disk
for function in $DISK $EDU; do
  group=$(readlink $functions/$function/iommu_group)
  say group $function "${group##*/}" "$(cat $functions/$function/iommu_group/type)"
done

# The first 16 MiB are the host's.
say read "$(sum_of 256 0)"

# The next 4 MiB are ours.
dd if=/dev/urandom of=/tmp/written bs=64k count=64 2>/dev/null
say written "$(sum </tmp/written)"
dd if=/tmp/written of=$device bs=64k seek=256 oflag=direct conv=notrunc 2>/dev/null
say back "$(sum_of 64 256)"

# Many small transfers, several at a time: each is mapped and unmapped.
small() { dd if=$device bs=4k "$@" iflag=direct 2>/dev/null | sum; }
small count=500 skip=0 >/tmp/first &
small count=500 skip=1000 >/tmp/second &
dd if=/tmp/written of=$device bs=4k count=250 seek=8192 oflag=direct conv=notrunc 2>/dev/null
wait
say storm "$(cat /tmp/first)" "$(cat /tmp/second)" "$(small count=250 skip=8192)"
grep nvme0q /proc/interrupts | while read -r line; do say interrupts $line; done

# A read by a device without a driver, where nothing is mapped.
if [ -n "$FAULT" ]; then
  printf '\006' | dd of=$functions/$EDU/config bs=1 seek=4 conv=notrunc 2>/dev/null
  base=$(head -n 1 $functions/$EDU/resource | cut -d ' ' -f 1)
  devmem $((base + 0x80)) 64 $FAULT
  devmem $((base + 0x88)) 64 0x40000
  devmem $((base + 0x90)) 64 8
  devmem $((base + 0x98)) 64 1
  sleep 0.2
  say fault provoked
fi

echo $DISK >/sys/bus/pci/drivers/nvme/unbind
if [ -b $device ] || [ -e $functions/$DISK/driver ]; then say unbound no; else say unbound yes; fi
echo $DISK >/sys/bus/pci/drivers/nvme/bind
await_disk
say bound "$(sum_of 64 256)"

say done
reboot -f
