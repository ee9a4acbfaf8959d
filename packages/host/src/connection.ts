/** What a device of the host is to whoever lends it to a guest, whichever way it was opened. */
import type { HostIOMMUContext } from '@remora/iommu';
import type { VfioDevice } from './vfio/device.js';

/** An open device; disposing of it closes what nobody else uses. */
export interface HostConnection extends Disposable {
  readonly device: VfioDevice;
  /** What its memory is mapped in, for people: `vm0/container0`, `vm0/iommufd0/ioas0`. */
  readonly home: string;
  /** Number of its IOMMU group; -1 if the way it was opened has none. */
  readonly group: number;
  readonly nested: boolean;
  /** Why nesting was wanted and not taken. */
  readonly nestingRefused: string | undefined;
  /** What a vIOMMU sees of the host's IOMMU; undefined if that does not nest. */
  readonly context: HostIOMMUContext | undefined;
}
