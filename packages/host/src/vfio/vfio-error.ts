import { errnoName } from '@remora/core';

/**
 * A host that refuses to open, attach or describe something while a device is realized. Whatever the failed operation had begun
 * is undone. At run time the host's refusals are negated errnos instead.
 */
export class VfioError extends Error {
  override readonly name = 'VfioError';
  /** Positive; 0 where the host answered, but with something unusable. */
  readonly errno: number;

  /** `what` names the object and the operation: `container0: VFIO_SET_IOMMU`. */
  constructor(what: string, result: number, detail?: string) {
    const errno = Math.abs(result);
    const why = [errno === 0 ? undefined : errnoName(errno), detail].filter(part => part !== undefined).join(', ');
    super(`${what}: ${why}`);
    this.errno = errno;
  }
}

/** `result` if it is a success. @throws VfioError if it is a negated errno. */
export function expectOk(what: string, result: number): number {
  if (result < 0) throw new VfioError(what, result);
  return result;
}
