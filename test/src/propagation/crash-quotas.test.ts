/** What a VM had of a quota when it died is there for others at once: PASIDs over VFIO, pinned memory and page requests over iommufd. */
import test from 'ava';
import { Errno, MemTx } from '@remora/core';
import type { HostProcess } from '@remora/host-sim';
import { ENGINE, lendingHost, SECOND_ENGINE } from '@remora/machines';
import { IommufdUser, owner } from '@remora/testing';
import { LentEngine } from '../iommufd/lent-engine.js';
import { Rig } from '../rig/rig.js';
import { pattern, SharedSpace } from './shared-space.js';

const MIB = 0x10_0000;
const PAGE = 4096;
const AT = 0x1_0000_0000;
const QUOTA = 3;

test('VFIO: each process has a quota of PASIDs of its own, whole again for the next one', t => {
  const own = owner(t);
  const host = own(lendingHost({ memory: 64 * MIB, kernel: { pasidQuota: QUOTA } }));
  const lasting = own(new Rig({ host, functions: [{ addr: '03.0', host: SECOND_ENGINE }], memory: 4 }));
  lasting.allocate();
  const before = host.platform.dump();
  for (const round of [1, 2]) {
    let process: HostProcess | undefined;
    const passing = own(new Rig({ host, memory: 4, interpose: syscalls => (process = syscalls as HostProcess) }));
    for (let count = 0; count < QUOTA; count++) passing.allocate();
    t.true(passing.guest.iommu.allocPasid() < 0, `round ${round}: its quota is used up`);
    process![Symbol.dispose]();
    t.true(passing.guest.iommu.allocPasid() < 0, 'the dead have none');
    t.deepEqual(host.platform.dump(), before);
  }
  lasting.allocate();
  lasting.allocate();
  t.true(lasting.guest.iommu.allocPasid() < 0, "the other's own quota counts for it");
});

test('iommufd: what a user may pin is shared by its processes; the pages of a dead one are there for the other', t => {
  const own = owner(t);
  const { platform } = own(lendingHost({ memory: 64 * MIB, kernel: { memlock: 6 * PAGE } }));
  const lent = [
    { process: platform.process('vm0', 'alice'), bdf: ENGINE, cdev: '/dev/vfio/devices/vfio0' },
    { process: platform.process('vm1', 'alice'), bdf: SECOND_ENGINE, cdev: '/dev/vfio/devices/vfio1' },
  ].map(({ process, bdf, cdev }) => {
    const user = new IommufdUser(process);
    const ioas = user.ioas();
    const device = user.bind(cdev);
    t.is(user.attach(device.fd, ioas), 0);
    platform.function(bdf).config.write(4, 6, 2);
    return { process, user, ioas, bdf, memory: user.memory(4 * PAGE) };
  });
  const [one, other] = [lent[0]!, lent[1]!];
  const map = ({ user, ioas, memory }: typeof one): number => user.map(ioas, 0, memory.address, 4 * PAGE);
  const writes = ({ bdf }: typeof one): boolean =>
    platform.function(bdf).dma.write(0, 2 * PAGE, pattern(16)) === MemTx.OK;
  t.is(map(one), 0);
  t.is(map(other), -Errno.ENOMEM);
  t.deepEqual([writes(one), writes(other)], [true, false]);
  one.process[Symbol.dispose]();
  platform.function(ENGINE).config.write(4, 6, 2);
  t.is(map(other), 0);
  t.deepEqual([writes(one), writes(other)], [false, true]);
  const read = new Uint8Array(16);
  other.memory.ram.read(0, 2 * PAGE, read);
  t.deepEqual(read, pattern(16));
  other.process[Symbol.dispose]();
  t.deepEqual(platform.dump()['pinned'], []);
});

test('iommufd: a page that a VM owes when it dies is refused to its device, and the next VM has the device', t => {
  const own = owner(t);
  let process: HostProcess | undefined;
  const before: unknown[] = [];
  const at = own(
    new LentEngine({
      prepare: host => before.push(host.platform.dump()),
      interpose: syscalls => (process = syscalls as HostProcess),
    }),
  );
  const { engine, pasid } = at.space;
  const { platform } = at.hostLevel;
  t.like(engine.fill({ pasid, to: AT * PAGE, length: 4, pattern: 1 }), { busy: true, moved: 0 });
  process![Symbol.dispose]();
  t.deepEqual(platform.dump(), before[0]);
  const next = own(new Rig({ host: at.hostLevel, objects: ['iommufd,id=iommufd0'], vfio: 'iommufd=iommufd0' }));
  const space = new SharedSpace(next).bind();
  const page = space.page(AT);
  t.true(space.deviceWrites(AT, pattern(16)).ok);
  t.deepEqual(next.guest.read(page, 16), pattern(16));
});
