#!/bin/busybox sh
# The only program of a guest whose disks are measured. It takes lines over the second serial port: a PCI function, the size of a block, and how
# many of them are to be read past the page cache; it answers with a line before it reads and one after. A fourth word asks for the sum of what
# was read, and for the kind of the function's IOMMU domain.
. /lib/guest.sh

exec </dev/ttyS1 >/dev/ttyS1
stty raw -echo

# disk_of FUNCTION
disk_of() {
  until ls -d /sys/bus/pci/devices/"$1"/nvme/nvme*/nvme*n1 2>/dev/null; do sleep 0.1; done | sed 's|.*/|/dev/|'
}

echo ready
while read -r function bs count sum; do
  disk=$(disk_of "$function")
  echo reading
  if [ -n "$sum" ]; then
    domain=$(cat /sys/bus/pci/devices/"$function"/iommu_group/type 2>/dev/null || echo none)
    echo "$(dd if="$disk" bs="$bs" count="$count" iflag=direct 2>/dev/null | md5sum | cut -d ' ' -f 1) $domain"
  else
    dd if="$disk" of=/dev/null bs="$bs" count="$count" iflag=direct 2>&1 | head -n 1
  fi
done
