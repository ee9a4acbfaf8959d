#!/bin/busybox sh
# The only program of a live guest with a Data Streaming Accelerator. First a work queue of the kernel's, then one
# of a process, whose own addresses the device uses. What it finds goes to the kernel's log.
. /lib/guest.sh

. /lib/idxd.sh

start kernel dmaengine
say kernel_queue "$(state)" "$(ls /sys/class/dma)"
# It says kernel_copied: an error or 0, copies, bytes, and the sums of what they were of and what they are.
insmod /copies.ko device="$DSA"
say kernel_executed "$(cat /sys/module/movdir64b/parameters/executed)"
grep idxd /proc/interrupts | while read -r line; do say interrupts $line; done
stop dmaengine
say kernel_stopped "$(state)"

start user user 1
say user_queue "$(state)"
dd if=/dev/urandom of=/tmp/given bs=64k count=1 iflag=fullblock 2>/dev/null
say given "$(cat /tmp/given /tmp/given | sum)"
/copy </tmp/given >/tmp/taken
say taken $? "$(sum </tmp/taken)"
stop user
say user_stopped "$(state)"

say done
reboot -f
