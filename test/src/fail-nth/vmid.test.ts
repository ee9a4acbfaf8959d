/** A VM with two containers that share a VMID: everything that its host does for them fails once. */
import test from 'ava';
import { createMachine, type Machine } from '@remora/machine';
import { ENGINE, lendingHost, SECOND_ENGINE } from '@remora/machines';
import {
  ALL_IS_WELL,
  assertFailNth,
  type FailNthLife,
  type FailurePorts,
  GOES_WITHOUT,
  withoutPlaces,
  withoutTables,
} from '@remora/testing';
import q35Plugin from '@hw/q35/plugin';
import vfioPciPlugin from '@hw/vfio-pci/plugin';

const MIB = 0x10_0000;

function device(id: string, host: string, addr: string): string {
  return `vfio-pci,id=${id},host=${host},addr=${addr},container=new,x-vmid=on`;
}

/** Both devices at the start, and one of them plugged again. */
function begin(ports: FailurePorts): FailNthLife {
  const host = lendingHost({ memory: 16 * MIB, kernel: { uapi: 'vmid-rfc-v2' }, failures: ports.inject });
  const { platform } = host;
  let machine: Machine | undefined;
  const [one, other] = [device('one', ENGINE, '03.0'), device('other', SECOND_ENGINE, '04.0')];

  const disturbed = (act: () => void): string => {
    const before = ports.struck;
    act();
    return ports.struck === before ? ALL_IS_WELL : GOES_WITHOUT;
  };
  const close = (): string => {
    machine?.[Symbol.dispose]();
    machine = undefined;
    return ALL_IS_WELL;
  };
  const start = (): string =>
    disturbed(() => {
      close();
      machine = createMachine(host, {
        board: 'q35,memory=1M',
        plugins: [q35Plugin, vfioPciPlugin],
        devices: [one, other],
        interpose: syscalls => ports.syscalls(syscalls, 'vmid-rfc-v2'),
      });
      machine.start();
    });
  const unplug = (): string => {
    if (machine!.ids.includes('one')) machine!.unplug('one');
    return ALL_IS_WELL;
  };
  const plug = (): string =>
    disturbed(() => {
      unplug();
      machine!.plug(one);
    });

  return {
    steps: [
      { name: 'start', creates: true, run: start },
      { name: 'unplug', run: unplug },
      { name: 'plug', creates: true, run: plug },
      { name: 'exit', run: close },
    ],
    dump: () => withoutTables(platform.dump()),
    leftovers: () => withoutPlaces(platform.dump()),
    /** Under which tags the unit has the engines. */
    look: () => {
      const { functions } = platform.dump()['iommu'] as { functions: { requesterId: number; domain: number }[] };
      return functions.map(({ requesterId, domain }) => `${requesterId.toString(16)}:${domain}`).join(' ');
    },
    [Symbol.dispose]: () => host[Symbol.dispose](),
  };
}

test('two containers, one VMID', t => {
  const { outcomes } = assertFailNth(t, { name: 'vmid', minimum: 110, begin });
  const asked = new Set(outcomes.map(({ name }) => name));
  t.true(asked.has('VFIO_IOMMU_GET_VMID') && asked.has('VFIO_IOMMU_SET_VMID'));
});
