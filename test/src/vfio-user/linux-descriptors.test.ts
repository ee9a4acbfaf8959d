// Linux, unmodified, boots with two disks that QEMU's client passes descriptors for: one interrupts by MSI-X, the other by its pin.
import { createHash, randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bootReports, buildInitramfs, folderWithUs, type Peers, spawnWithUs } from '@remora/tools/live';
import { ServedMachine } from '@remora/tools/serve';
import nvmePlugin from '@hw/nvme/plugin';
import test from 'ava';
import { findLivePeers } from '../live/live-peers.js';
import { koffiMissing } from './koffi.js';

const found = findLivePeers('6.1');
const noKoffi = koffiMissing();
const missing = 'missing' in found ? found.missing : noKoffi === undefined ? undefined : ` (skipped: ${noKoffi})`;
const withLinux = missing === undefined ? test : test.skip;

const MIB = 2 ** 20;
const DISK_BYTES = 32 * MIB;
const MEMORY = '256M';
const SLOTS = { messages: 4, pin: 5 } as const;

/** Reads the first half of each disk, writes a part of the other, reads that back. */
const INIT = `#!/bin/busybox sh
. /lib/guest.sh
dd if=/dev/urandom of=/tmp/written bs=64k count=32 2>/dev/null
for slot in 04 05; do
  controller=
  while [ -z "$controller" ]; do
    controller=$(ls /sys/bus/pci/devices/0000:00:$slot.0/nvme 2>/dev/null)
    sleep 0.1
  done
  device=/dev/\${controller}n1
  while [ ! -b $device ]; do sleep 0.1; done
  say read $slot "$(dd if=$device bs=64k count=256 iflag=direct 2>/dev/null | sum)"
  dd if=/tmp/written of=$device bs=64k seek=256 oflag=direct conv=notrunc 2>/dev/null
  say back $slot "$(dd if=$device bs=64k skip=256 count=32 iflag=direct 2>/dev/null | sum)"
  grep \${controller}q /proc/interrupts | while read -r line; do say interrupts $slot $line; done
done
say written "$(sum </tmp/written)"
say done
reboot -f
`;

function sumOf(bytes: Uint8Array): string {
  return createHash('md5').update(bytes).digest('hex');
}

withLinux(`Linux reads and writes a disk with MSI-X, and one with INTx${missing ?? ''}`, async t => {
  const { qemu, kernel, busybox } = found as Peers;
  const folder = folderWithUs('remora-linux-');
  const at = (name: string): string => join(folder.path, name);
  const disks = {
    messages: randomFillSync(new Uint8Array(DISK_BYTES)),
    pin: randomFillSync(new Uint8Array(DISK_BYTES)),
  };
  for (const [name, bytes] of Object.entries(disks)) writeFileSync(at(name), bytes);
  const reports: string[] = [];
  const served = new ServedMachine({
    plugins: [nvmePlugin],
    devices: [
      `nvme,id=messages,msi=false,addr=${SLOTS.messages},file=${at('messages')}`,
      `nvme,id=pin,msi=false,msix=false,addr=${SLOTS.pin},file=${at('pin')}`,
    ],
    report: text => reports.push(text),
  });
  const listening: Disposable[] = [];
  t.teardown(() => {
    for (const each of listening) each[Symbol.dispose]();
    served[Symbol.dispose]();
    folder[Symbol.dispose]();
  });
  t.deepEqual(
    served.parts.map(({ descriptors }) => descriptors),
    [true, true],
    'they cannot do without',
  );
  for (const id of Object.keys(SLOTS)) listening.push(await served.listen(id, at(`${id}.socket`)));
  writeFileSync(at('init'), INIT);
  writeFileSync(at('initramfs'), buildInitramfs(busybox, { init: at('init') }));
  const [program, ...first] = qemu;
  const args = [
    ...first,
    ...['-machine', 'q35,memory-backend=ram', '-accel', 'tcg', '-cpu', 'max', '-m', MEMORY, '-no-reboot'],
    ...['-object', `memory-backend-memfd,id=ram,size=${MEMORY},share=on`],
    ...['-nodefaults', '-display', 'none', '-monitor', 'none', '-serial', `file:${at('console')}`],
    ...Object.entries(SLOTS).flatMap(([id, slot]) => [
      '-device',
      JSON.stringify({
        driver: 'vfio-user-pci',
        addr: String(slot),
        'x-msg-timeout': 300_000,
        socket: { type: 'unix', path: at(`${id}.socket`) },
      }),
    ]),
    ...[
      '-kernel',
      kernel.image,
      '-initrd',
      at('initramfs'),
      '-append',
      'console=ttyS0 panic=-1 no_timer_check printk.devkmsg=on',
    ],
  ];
  const child = spawnWithUs(program!, args, { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'close');
  const [boot] = bootReports(readFileSync(at('console'), 'latin1').split('\n'));
  const { said } = boot!;
  t.log(said.get('interrupts'));
  t.deepEqual(said.get('read'), [
    `04 ${sumOf(disks.messages.subarray(0, 16 * MIB))}`,
    `05 ${sumOf(disks.pin.subarray(0, 16 * MIB))}`,
  ]);
  const written = said.get('written')![0]!;
  t.deepEqual(said.get('back'), [`04 ${written}`, `05 ${written}`]);
  for (const name of Object.keys(disks)) {
    t.is(sumOf(readFileSync(at(name)).subarray(16 * MIB, 18 * MIB)), written, name);
  }
  const interrupts = said.get('interrupts')!;
  t.true(
    interrupts.filter(line => line.startsWith('04')).every(line => / PCI-MSIX?/.test(line)),
    interrupts.join('\n'),
  );
  t.true(
    interrupts.filter(line => line.startsWith('05')).every(line => line.includes('IO-APIC')),
    interrupts.join('\n'),
  );
  for (const slot of ['04', '05']) {
    const counts = interrupts.filter(line => line.startsWith(slot)).map(line => Number(/: +(\d+)/.exec(line)?.[1]));
    t.true(Math.max(...counts) > 250, `${slot}: ${counts.join()}`);
  }
  t.deepEqual(reports, []);
});
