/** DMA of a served device: 4 KiB a time into the file that a guest's memory is in. */
import { closeSync, openSync, readSync, truncateSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { Access, MemTx } from '@remora/core';
import { Guest } from '@remora/machines';
import { Command, Config } from '@remora/pci';
import eduPlugin from '@hw/edu/plugin';
import { legacyContext } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { Granularity } from '@hw/intel-iommu/spec';
import { ServedMachine } from '../../serve/index.js';
import { mix, type MakeKernel } from './kernel.js';

const PAGE = 4096;
const DEVFN = 0x20;
const DOMAIN = 3;
const RUNS = 4;
/** Where the device's pages begin as the guest's addresses and, where they are translated, as the device's. */
const FIRST_FRAME = 0x1000;
const FIRST_IOVA = 0x4_0000;
const TABLES_FRAME = 0x100;
/** Pages are taken in this order: each once, not one after the other. */
const STEP = 97;

/** How the device's addresses reach memory: as they are, by what the IOTLB holds, by a walk for each. */
export type Way = 'untranslated' | 'held' | 'walked';

/** `entries` pages, each written several times in a run; but once, if each is to be walked. The first word of a page tells which write was its last. */
export function servedDma(way: Way): MakeKernel {
  return (entries, folder) => {
    const file = join(folder, 'memory');
    const size = (FIRST_FRAME + entries) * PAGE;
    writeFileSync(file, '');
    truncateSync(file, size);
    const served = new ServedMachine({
      plugins: [eduPlugin, intelIommuPlugin],
      devices: [...(way === 'untranslated' ? [] : ['intel-iommu']), 'edu,id=edu,addr=4'],
      memory: file,
      iommu: { identity: { vendor: 1, device: 1, classCode: 0 }, bytes: PAGE },
    });
    const mapped = served.memory.attach().map({ address: 0n, size: BigInt(size), offset: 0n, flags: 3 });
    if (mapped !== 0) throw new Error(`the memory cannot be mapped: ${mapped}`);
    const fn = served.machine.functions('edu')[0]!;
    fn.config.write(Config.COMMAND, Command.MEMORY | Command.MASTER, 2);
    const forget = way === 'untranslated' ? undefined : translate(served, entries);
    const first = way === 'untranslated' ? FIRST_FRAME : FIRST_IOVA;
    const runs = way === 'walked' ? 1 : RUNS;
    const page = new Uint8Array(PAGE).fill(0x5a);
    const word = new Int32Array(page.buffer, 0, 1);
    const fd = openSync(file, 'r+');
    process.once('exit', () => closeSync(fd));
    const eachPage = (visit: (position: number) => void): void => {
      for (let i = 0; i < entries; i++) visit((FIRST_FRAME + i) * PAGE);
    };
    return {
      before() {
        word[0] = 0;
        eachPage(position => writeSync(fd, page, 0, 4, position));
        if (way === 'walked') forget?.();
      },
      run() {
        for (let i = 0; i < runs * entries; i++) {
          const frame = first + ((i * STEP) % entries);
          word[0] = i;
          if (fn.dma.write(frame >>> 20, frame << 12, page) !== MemTx.OK) throw new Error('a transfer failed');
        }
        return runs * entries;
      },
      checksum() {
        let sum = 0;
        eachPage(position => {
          readSync(fd, page, 0, 4, position);
          sum = mix(sum, word[0]!);
        });
        return sum;
      },
    };
  };
}

/** Maps the pages for the device. Returns what makes the unit forget them. */
function translate({ machine }: ServedMachine, pages: number): () => void {
  const guest = new Guest(machine, { mode: 'legacy', firstFrame: TABLES_FRAME, frames: FIRST_FRAME - TABLES_FRAME });
  const table = guest.secondStage();
  guest.iommu.start(undefined, () => guest.iommu.attach(DEVFN, legacyContext(table, DOMAIN)));
  table.map(FIRST_IOVA, FIRST_FRAME, pages, Access.READ_WRITE);
  return () => {
    if (guest.iommu.iotlbInvalidate(Granularity.GLOBAL) !== 0) throw new Error('the unit does not forget');
  };
}
