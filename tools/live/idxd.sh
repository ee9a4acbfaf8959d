# What guests with a Data Streaming Accelerator begin with: Linux's driver of it, idxd. DSA is its PCI function.
bus=/sys/bus/dsa
queue=$bus/devices/wq0.0

set_to() { echo "$1" >"$2" 2>/dev/null; }

# start TYPE DRIVER: configures the work queue, and enables device and queue.
start() {
  set_to 0 $bus/devices/engine0.0/group_id
  set_to 0 $queue/group_id
  set_to dedicated $queue/mode
  set_to 16 $queue/size
  set_to 10 $queue/priority
  set_to "${3:-0}" $queue/block_on_fault
  set_to "$1" $queue/type
  set_to remora $queue/name
  set_to "$2" $queue/driver_name
  set_to dsa0 $bus/drivers/idxd/bind
  set_to wq0.0 $bus/drivers/"$2"/bind
}
# stop DRIVER
stop() {
  set_to wq0.0 $bus/drivers/"$1"/unbind
  set_to dsa0 $bus/drivers/idxd/unbind
}
state() { echo "$(cat $bus/devices/dsa0/state) $(cat $queue/state) $(cat $bus/devices/dsa0/cmd_status)"; }

say kernel "$(uname -r)"
# The processor says that it has the instruction by which idxd submits, and has not.
insmod /movdir64b.ko
for module in idxd_bus idxd; do
  [ -f /$module.ko.xz ] && unxz /$module.ko.xz
  insmod /$module.ko
done
driver=$(readlink /sys/bus/pci/devices/"$DSA"/driver)
say driver "${driver##*/}"
say group "$(cat /sys/bus/pci/devices/"$DSA"/iommu_group/type)"
say pasids "$(cat $bus/devices/dsa0/pasid_enabled)"
