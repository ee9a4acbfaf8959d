/** What a function that a host lends tells those who trace it: QEMU's events, by QEMU's names. `name` is its address on the host. */
import type { TracePoints } from '@remora/core';

export const VFIO_PCI_EVENTS = {
  vfio_attach_device: ['name', 'group'],
  vfio_detach_device: ['name', 'group'],
  vfio_populate_device_config: ['name', 'size', 'offset', 'flags'],
  vfio_region_setup: ['name', 'index', 'region', 'flags', 'offset', 'size'],
  vfio_region_read: ['region', 'addr', 'size', 'data'],
  vfio_region_write: ['region', 'addr', 'data', 'size'],
  vfio_pci_read_config: ['name', 'addr', 'size', 'data'],
  vfio_pci_write_config: ['name', 'addr', 'data', 'size'],
  vfio_pci_reset: ['name'],
  vfio_msi_setup: ['name', 'pos'],
  vfio_msix_early_setup: ['name', 'pos', 'bar', 'offset', 'entries'],
  vfio_msi_enable: ['name', 'vectors'],
  vfio_msi_disable: ['name'],
  vfio_msix_enable: ['name'],
  vfio_msix_disable: ['name'],
  vfio_msi_interrupt: ['name', 'vector'],
} as const;

export type VfioPciTrace = TracePoints<typeof VFIO_PCI_EVENTS>;
