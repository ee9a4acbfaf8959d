/** The form of an ioctl of /dev/iommu. */
import type { StructType } from '@remora/uapi';
import type { IommufdContext } from './context.js';

export interface IommufdIoctl {
  readonly request: number;
  /** As in linux/iommufd.h. */
  readonly name: string;
  /** What the kernel knows of the argument: fields that a caller's shorter structure lacks are zero. */
  readonly struct: StructType;
  /** Bytes that the first kernel that had this ioctl asked for: a caller's structure is at least as long. */
  readonly minimum: number;
  /**
   * Serves a call. `view` is the kernel's copy of the structure; whatever the result, it is copied back as far as the caller's structure goes,
   * so change it only in what the caller is to see. 0 or a negated errno.
   */
  run(context: IommufdContext, view: DataView): number;
}

/** An ioctl whose argument is `struct`; `minimum` in bytes is all of it unless something else is said. */
export function iommufdIoctl(
  name: string,
  request: number,
  struct: { readonly size: number },
  run: IommufdIoctl['run'],
  minimum: number = struct.size,
): IommufdIoctl {
  return { name, request, struct: struct as StructType, minimum, run };
}
