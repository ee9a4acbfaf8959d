/** Whether descriptors can be passed here. */
import { Descriptors } from '@remora/vfio-user';

/** Why not; undefined if they can. */
export function koffiMissing(): string | undefined {
  try {
    new Descriptors();
    return undefined;
  } catch (failure) {
    return (failure as Error).message;
  }
}
