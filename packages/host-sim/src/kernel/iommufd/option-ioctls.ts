/** IOMMU_OPTION: how pages are accounted, and whether small ones are merged. */
import { Errno } from '@remora/core';
import { IOMMU_OPTION, IommuOption, IommuOptionId, IommuOptionOp } from '@remora/uapi';
import type { IommufdContext } from './context.js';
import { Ioas } from './ioas.js';
import { iommufdIoctl, type IommufdIoctl } from './ioctls.js';

function option(context: IommufdContext, view: DataView): number {
  if (IommuOption.hasPadding(view)) return -Errno.EOPNOTSUPP;
  switch (IommuOption.fields.option_id.get(view)) {
    case IommuOptionId.RLIMIT_MODE:
      return rlimitMode(context, view);
    case IommuOptionId.HUGE_PAGES:
      return hugePages(context, view);
    default:
      return -Errno.EOPNOTSUPP;
  }
}

/** Of the context as a whole, and only before it has objects. */
function rlimitMode(context: IommufdContext, view: DataView): number {
  const { object_id, op, val64 } = IommuOption.fields;
  if (object_id.get(view) !== 0) return -Errno.EOPNOTSUPP;
  switch (op.get(view)) {
    case IommuOptionOp.GET:
      val64.set(view, 0, context.accounting === 'process' ? 1 : 0);
      return 0;
    case IommuOptionOp.SET: {
      if (!context.process.privileged) return -Errno.EPERM;
      if (!context.objects.empty) return -Errno.EBUSY;
      const value = val64.number(view);
      if (value > 1) return -Errno.EINVAL;
      context.accounting = value === 1 ? 'process' : 'user';
      return 0;
    }
    default:
      return -Errno.EOPNOTSUPP;
  }
}

function hugePages(context: IommufdContext, view: DataView): number {
  const { object_id, op, val64 } = IommuOption.fields;
  const ioas = context.objects.get(object_id.get(view), Ioas);
  if (typeof ioas === 'number') return ioas;
  switch (op.get(view)) {
    case IommuOptionOp.GET:
      val64.set(view, 0, Number(ioas.hugePages));
      return 0;
    case IommuOptionOp.SET: {
      const value = val64.number(view);
      return value > 1 ? -Errno.EINVAL : ioas.setHugePages(value === 1);
    }
    default:
      return -Errno.EOPNOTSUPP;
  }
}

export const optionIoctls: readonly IommufdIoctl[] = [iommufdIoctl('IOMMU_OPTION', IOMMU_OPTION, IommuOption, option)];
