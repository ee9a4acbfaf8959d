#!/bin/busybox sh
# The only program of a live guest whose accelerator faults. What it finds goes to the kernel's log.
. /lib/guest.sh
. /lib/idxd.sh

start kernel dmaengine
say kernel_queue "$(state)" "$(ls /sys/class/dma)"
# It says kernel_copied, and kernel_faulted: what the driver made of it, the address, and whether anything came.
insmod /copies.ko device="$DSA" faults=1
sleep 0.2
stop dmaengine
say kernel_stopped "$(state)"

say done
reboot -f
