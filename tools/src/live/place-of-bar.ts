/** Where a guest's firmware has placed a served device. */
import { Command, Config } from '@remora/pci';
import { VfioPciRegion } from '@remora/uapi';
import type { ServedDevice } from '@remora/vfio-user';

/** Address of BAR 0; undefined while it has none, or does not decode. */
export function placeOfBar({ regions }: Pick<ServedDevice, 'regions'>): number | undefined {
  const config = regions[VfioPciRegion.CONFIG]!;
  const word = new Uint8Array(4);
  config.read(Config.COMMAND, word);
  if ((word[0]! & Command.MEMORY) === 0) return undefined;
  config.read(Config.BAR0, word);
  const base = new DataView(word.buffer).getUint32(0, true) & ~ATTRIBUTES;
  return base === 0 ? undefined : base >>> 0;
}

const ATTRIBUTES = 0xf;
