/** A QEMU cannot be run or compared with, ended, or says nothing more. */
export class QemuError extends Error {
  override readonly name = 'QemuError';
}
