/** The one I/O address space that VFIO's own ioctls mean, which know no ids. */
import { Errno } from '@remora/core';
import { IOMMU_VFIO_IOAS, IommuVfioIoas, IommuVfioIoasOp } from '@remora/uapi';
import type { IommufdContext } from './context.js';
import { Ioas } from './ioas.js';
import { iommufdIoctl, type IommufdIoctl } from './ioctls.js';

/** -ENODEV if there is none: never chosen, taken back, or destroyed. */
export function compatIoas(context: IommufdContext): Ioas | number {
  const ioas = context.vfioIoas;
  return ioas !== undefined && context.objects.get(ioas.id, Ioas) === ioas ? ioas : -Errno.ENODEV;
}

/** What a group brings that is set to an iommufd: the one that is there, or a new one. 0 or a negated errno. */
export function ensureCompatIoas(context: IommufdContext): number {
  if (typeof compatIoas(context) !== 'number') return 0;
  const ioas = new Ioas(context.kernel);
  const failed = context.objects.add(ioas);
  if (failed === 0) context.vfioIoas = ioas;
  return failed;
}

function vfioIoas(context: IommufdContext, view: DataView): number {
  const { ioas_id, op } = IommuVfioIoas.fields;
  if (IommuVfioIoas.hasPadding(view)) return -Errno.EOPNOTSUPP;
  switch (op.get(view)) {
    case IommuVfioIoasOp.GET: {
      const ioas = compatIoas(context);
      if (typeof ioas === 'number') return ioas;
      ioas_id.set(view, ioas.id);
      return 0;
    }
    case IommuVfioIoasOp.SET: {
      const ioas = context.objects.get(ioas_id.get(view), Ioas);
      if (typeof ioas === 'number') return ioas;
      context.vfioIoas = ioas;
      return 0;
    }
    case IommuVfioIoasOp.CLEAR:
      context.vfioIoas = undefined;
      return 0;
    default:
      return -Errno.EOPNOTSUPP;
  }
}

export const vfioIoasIoctls: readonly IommufdIoctl[] = [
  iommufdIoctl('IOMMU_VFIO_IOAS', IOMMU_VFIO_IOAS, IommuVfioIoas, vfioIoas),
];
