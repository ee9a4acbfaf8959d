/** What a caller hands to an ioctl, as the kernel copies it in. */
import { Errno } from '@remora/core';
import type { IoctlArgument } from '@remora/host';
import { viewOf } from '@remora/uapi';

/**
 * The caller's structure of at least `minimum` bytes, the first of which are argsz. -EFAULT if there are not so many bytes,
 * -EINVAL if argsz says so.
 */
export function userStruct(argument: IoctlArgument, minimum: number): DataView | number {
  const view = userBytes(argument, minimum);
  if (typeof view === 'number') return view;
  return view.getUint32(0, true) < minimum ? -Errno.EINVAL : view;
}

/** The bytes that were copied in last, and their view: a VMM uses one buffer for all calls of a kind, and a view costs 50 ns. */
let lastBytes: Uint8Array = new Uint8Array(0);
let lastView = viewOf(lastBytes);

/** The caller's bytes: at least `minimum` of them, or -EFAULT. */
export function userBytes(argument: IoctlArgument, minimum: number): DataView | number {
  if (!(argument instanceof Uint8Array) || argument.length < minimum) return -Errno.EFAULT;
  if (argument !== lastBytes) {
    lastView = viewOf(argument);
    lastBytes = argument;
  }
  return lastView;
}

/** An integer argument; undefined if the caller passed a pointer. */
export function userInteger(argument: IoctlArgument): number | undefined {
  return typeof argument === 'number' ? argument : undefined;
}
