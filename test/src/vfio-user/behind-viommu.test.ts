// A vIOMMU and a device, both served: the device's DMA goes where the guest's tables in the shared file say, faults become messages.
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Access } from '@remora/core';
import { Guest } from '@remora/machines';
import { ServedMachine } from '@remora/tools/serve';
import { listen } from '@remora/vfio-user';
import { VfioUserClient } from '@remora/vfio-user/client';
import { BUFFER_BASE, Reg as Edu } from '@hw/edu';
import eduPlugin from '@hw/edu/plugin';
import { Fault } from '@hw/intel-iommu';
import { legacyContext } from '@hw/intel-iommu/driver';
import intelIommuPlugin from '@hw/intel-iommu/plugin';
import { Reg } from '@hw/intel-iommu/spec';
import test from 'ava';

const MIB = 0x10_0000;
const RAM = 16 * MIB;
const RID = 0x20;
const CONFIG = 7;
const IOVA_FRAME = 0x7654;
const [RUN, TO_MEMORY] = [1, 2];
/** A guest whose memory is not where its addresses are: GPA 0 is at this place of the file. */
const FILE_OFFSET = MIB;

function number(value: number, size: 4 | 8): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer, 0, size);
}

class Rig implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'remora-served-'));
  readonly file = join(this.folder, 'ram');
  readonly served: ServedMachine;

  constructor() {
    writeFileSync(this.file, '');
    truncateSync(this.file, RAM + FILE_OFFSET);
    this.served = new ServedMachine({
      plugins: [intelIommuPlugin, eduPlugin],
      devices: ['intel-iommu,id=vtd', 'edu,id=edu0,addr=04.0'],
      memory: this.file,
      iommu: {
        identity: { vendor: 0x8086, device: 0x0e34, classCode: 0x080600 },
        bytes: 4096,
        hideAfter: { start: Reg.CAP, end: Reg.CAP + 8 },
      },
    });
  }

  /** A client of device `id` that has mapped all memory. */
  async connect(id: string): Promise<VfioUserClient> {
    const path = join(this.folder, id);
    const listening = await listen(path, stream => this.served.server(id).accept(stream));
    const client = await VfioUserClient.connect(path);
    listening[Symbol.dispose]();
    await client.dmaMap({ address: 0, size: RAM, offset: FILE_OFFSET });
    return client;
  }

  at(gpa: number, length: number): Uint8Array {
    return new Uint8Array(readFileSync(this.file).subarray(FILE_OFFSET + gpa, FILE_OFFSET + gpa + length));
  }

  [Symbol.dispose](): void {
    this.served[Symbol.dispose]();
    rmSync(this.folder, { recursive: true });
  }
}

async function transfer(edu: VfioUserClient, source: number, target: number, command: number): Promise<void> {
  await edu.write(0, Edu.DMA_SRC, number(source, 8));
  await edu.write(0, Edu.DMA_DST, number(target, 8));
  await edu.write(0, Edu.DMA_COUNT, number(64, 8));
  await edu.write(0, Edu.DMA_CMD, number(RUN | command, 8));
  while (((await edu.read(0, Edu.DMA_CMD, 8))[0]! & RUN) !== 0) await new Promise(resolve => setTimeout(resolve, 5));
}

test('the unit is found, translates what the device asks for, reports what it must not, and the function is hidden', async t => {
  using rig = new Rig();
  const vtd = await rig.connect('vtd');
  const edu = await rig.connect('edu0');
  t.is(await vtd.readNumber(CONFIG, 0, 2), 0x8086);
  t.is(await vtd.readNumber(0, Reg.VER, 4), await readRegister(rig, Reg.VER));
  t.is(await vtd.readNumber(CONFIG, 0, 2), 0x8086);
  await vtd.read(0, Reg.CAP, 8);
  t.is(await vtd.readNumber(CONFIG, 0, 2), 0xffff);
  await edu.write(CONFIG, 4, number(6, 4));

  const guest = new Guest(rig.served.machine, { mode: 'legacy', firstFrame: 0x800, frames: 0x400 });
  const table = guest.secondStage();
  const [from, to] = [0x120, 0x355];
  guest.iommu.start({ hi: 0, lo: 0xfee0_1000, data: 0x4d }, () => guest.iommu.attach(RID, legacyContext(table, 3)));
  table.map(IOVA_FRAME, from, 1, Access.READ);
  table.map(IOVA_FRAME + 1, to, 1, Access.READ_WRITE);
  const pattern = Uint8Array.from({ length: 64 }, (_, index) => index + 1);
  guest.write(from, pattern, 0x40);
  t.deepEqual(rig.at(from * 4096 + 0x40, 64), pattern, 'what the guest writes is in the file');

  await transfer(edu, IOVA_FRAME * 4096 + 0x40, BUFFER_BASE, 0);
  await transfer(edu, BUFFER_BASE, (IOVA_FRAME + 1) * 4096 + 8, TO_MEMORY);
  t.deepEqual(rig.at(to * 4096 + 8, 64), pattern);
  t.deepEqual(vtd.writes, []);

  await transfer(edu, BUFFER_BASE, IOVA_FRAME * 4096, TO_MEMORY);
  await vtd.written(1);
  t.deepEqual(vtd.writes, [{ address: 0xfee0_1000n, data: number(0x4d, 4) }]);
  t.like(guest.iommu.handleFaults()[0], { requesterId: RID, write: true, lo: IOVA_FRAME * 4096, reason: Fault.LGN_2 });
  t.deepEqual(rig.at(from * 4096, 64), new Uint8Array(64));

  table.map(0x9999, 0x5000, 1, Access.READ_WRITE);
  await transfer(edu, 0x9999 * 4096, BUFFER_BASE, 0);
  await transfer(edu, BUFFER_BASE, (IOVA_FRAME + 1) * 4096, TO_MEMORY);
  t.deepEqual(rig.at(to * 4096, 64), new Uint8Array(64), 'translated to where nothing is mapped: zeroes were read');

  await vtd.reset();
  await transfer(edu, to * 4096 + 8, BUFFER_BASE, 0);
  await transfer(edu, BUFFER_BASE, 0x200 * 4096, TO_MEMORY);
  t.deepEqual(
    rig.at(0x200 * 4096, 64).subarray(56),
    pattern.subarray(56),
    'after the unit was reset nothing is translated',
  );
});

async function readRegister(rig: Rig, offset: number): Promise<number> {
  const out = new Uint8Array(4);
  rig.served.machine.memory.read(0, 0xfed9_0000 + offset, out);
  return Promise.resolve(new DataView(out.buffer).getUint32(0, true));
}
