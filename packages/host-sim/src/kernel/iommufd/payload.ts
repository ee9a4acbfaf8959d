/** Bytes that a structure points to, in the caller's memory. */
import { Errno, PAGE_BYTES } from '@remora/core';
import type { IommufdContext } from './context.js';

/** No vendor's structure is larger than a page. */
const LIMIT = PAGE_BYTES;

/** `length` bytes at `address` of the caller; -EFAULT if they are not there, -EINVAL if there are more than any driver knows. */
export function readPayload(context: IommufdContext, address: number, length: number): Uint8Array | number {
  if (length > LIMIT) return -Errno.EINVAL;
  const bytes = new Uint8Array(length);
  const error = context.process.memory.read(address, bytes);
  return error === 0 ? bytes : error;
}
