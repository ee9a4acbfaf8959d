/** What a VFIO client tells those who trace it: QEMU's events, by QEMU's names. Ranges are given by their first and last byte. */
import { frameHi, frameLo, hex } from '@remora/bits';
import { Trace, type TracePoints } from '@remora/core';

export const VFIO_HOST_EVENTS = {
  vfio_get_device: ['name', 'flags', 'regions', 'irqs'],
  vfio_put_base_device: ['fd'],
  vfio_put_group: ['fd'],
  vfio_disconnect_container: ['fd'],
  vfio_listener_region_add_ram: ['start', 'end', 'vaddr'],
  vfio_listener_region_add_iommu: ['name', 'start', 'end'],
  vfio_listener_region_skip: ['name', 'start', 'end'],
  vfio_listener_region_del: ['start', 'end'],
  vfio_listener_region_del_iommu: ['name'],
  vfio_iommu_map_notify: ['op', 'start', 'end'],
} as const;

export type VfioTrace = TracePoints<typeof VFIO_HOST_EVENTS>;

/** The events of the container called `name`; without a Trace, only DEBUG can have them. */
export function vfioTrace(name: string, trace = new Trace()): VfioTrace {
  return trace.points(name, VFIO_HOST_EVENTS);
}

/** Address of the first byte of a frame. */
export function firstByte(frame: number): string {
  return hex(frameHi(frame), frameLo(frame));
}

/** Address of the last byte of the frames before `frame`. */
export function lastByte(frame: number): string {
  return hex(frameHi(frame - 1), frameLo(frame - 1) | 0xfff);
}
