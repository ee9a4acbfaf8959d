#!/bin/busybox sh
# The only program of a live guest in which Remora runs on the real kernel, with the functions DEVICES. What it finds goes to the kernel's log; the
# answers, which are long, go out by the second serial port.
. /lib/guest.sh

functions=/sys/bus/pci/devices

say kernel "$(uname -r)"
for module in irqbypass vfio vfio_virqfd vfio_iommu_type1 vfio-pci-core vfio-pci; do
  [ -f /$module.ko.xz ] && unxz /$module.ko.xz
  [ -f /$module.ko ] && insmod /$module.ko
done
for function in $(echo "$DEVICES" | tr , ' '); do
  echo vfio-pci >$functions/$function/driver_override
  echo $function >/sys/bus/pci/drivers_probe
  driver=$(readlink $functions/$function/driver)
  say function $function "${driver##*/}"
done
say files $(cd /dev && ls -d iommu vfio/* vfio/devices/* 2>/dev/null)
stty -F /dev/ttyS1 raw -echo
start=$(cut -d ' ' -f 1 /proc/uptime)
node /main.mjs /dev/ttyS1 $SCRIPTS >/tmp/node 2>&1
say node $? "$start" "$(cut -d ' ' -f 1 /proc/uptime)"
tail -n 20 /tmp/node | while read -r line; do say complaint "$line"; done

say done
reboot -f
