import test from 'ava';
import { parseCommandLine } from './command-line.js';
import { CommandLineError } from './mistake.js';

const LIBQTEST =
  '-qtest unix:/tmp/qtest-1.sock -qtest-log /dev/null -chardev socket,path=/tmp/qtest-1.qmp,id=char0 ' +
  '-mon chardev=char0,mode=control -display none -audio none -run-with exit-with-parent=on';

test("libqtest's command line", t => {
  const line = parseCommandLine(`${LIBQTEST} -machine q35 -smp 1 -m 512 -net none -device edu -accel qtest`.split(' '));
  t.deepEqual(line.qtest, { kind: 'unix', path: '/tmp/qtest-1.sock', server: false });
  t.deepEqual(line.monitors, [{ kind: 'unix', path: '/tmp/qtest-1.qmp', server: false }]);
  t.deepEqual([line.qtestLog, line.exitWithParent, line.memory], ['/dev/null', true, '512M']);
  t.deepEqual([line.machine, line.processors, line.paused], ['q35', 1, false]);
  t.deepEqual(line.devices, [{ written: '-device edu', values: { driver: 'edu' } }]);
});

test('one dash or two; the last one counts; aliases', t => {
  const line = parseCommandLine([
    '--M',
    'none',
    '-machine',
    'pc-q35-9.2',
    '-m',
    '1',
    '-m',
    '64k',
    '-S',
    '--name',
    'guest=vm',
  ]);
  t.deepEqual([line.machine, line.machineVersion], ['q35', '9.2']);
  t.deepEqual([line.memory, line.paused, line.name], ['64k', true, 'vm']);
});

test('sizes of memory', t => {
  const memory = (text: string): unknown => parseCommandLine(['-m', text]).memory;
  t.deepEqual(['512', '128M', '2G', '2G,slots=4,maxmem=8G', 'size=1.5G'].map(memory), [
    '512M',
    '128M',
    '2G',
    '2G',
    '1.5G',
  ]);
});

test('slots that stay free: ICH9, and the default VGA adapter and network card', t => {
  const reserved = (text: string): readonly string[] => parseCommandLine(text.split(' ')).reserved;
  t.deepEqual(reserved('-M q35'), ['1', '2', '1f']);
  t.deepEqual(reserved('-net none'), ['1', '1f']);
  t.deepEqual(reserved('-vga none'), ['1', '1f'], 'then the network card comes first');
  t.deepEqual(reserved('-nodefaults'), ['1f']);
  t.deepEqual(reserved('-nodefaults -vga std'), ['1', '1f']);
});

test('globals in both notations', t => {
  const { globals } = parseCommandLine([
    ...['-global', 'mch.extended-tseg-mbytes=16', '-global', 'driver=edu,property=dma_mask,value=0xff'],
    ...['-global', 'intel-iommu.x=a=b.c'],
  ]);
  t.deepEqual(
    globals.map(({ values }) => values),
    [
      { driver: 'mch', property: 'extended-tseg-mbytes', value: '16' },
      { driver: 'edu', property: 'dma_mask', value: '0xff' },
      { driver: 'intel-iommu', property: 'x', value: 'a=b.c' },
    ],
  );
});

test('devices in both notations; a comma in a value is written twice', t => {
  const { devices } = parseCommandLine([
    ...['-device', 'edu,id=a,,b,addr=4,bus=pcie.0', '-device', '{"driver":"edu","id":"c","addr":32}'],
    ...['-device', 'driver=edu,noromfile,on'],
  ]);
  t.deepEqual(
    devices.map(({ values }) => values),
    [
      { driver: 'edu', id: 'a,b', addr: '4', bus: 'pcie.0' },
      { driver: 'edu', id: 'c', addr: 32 },
      { driver: 'edu', romfile: 'off', on: 'on' },
    ],
  );
});

test('connections', t => {
  const qmp = (...words: string[]): unknown => parseCommandLine(words).monitors;
  t.deepEqual(qmp('-qmp', 'unix:/a:b,server=on,wait=off'), [{ kind: 'unix', path: '/a:b', server: true }]);
  t.deepEqual(qmp('-qmp', 'unix:/a,server,nowait'), [{ kind: 'unix', path: '/a', server: true }]);
  t.deepEqual(qmp('-qmp', 'tcp:localhost:4444,server=on'), [
    { kind: 'tcp', host: 'localhost', port: 4444, server: true },
  ]);
  t.deepEqual(qmp('-qmp', 'stdio'), [{ kind: 'stdio' }]);
  t.deepEqual(qmp('-chardev', 'null,id=n', '-mon', 'n,mode=control'), []);
  t.deepEqual(qmp('-chardev', 'stdio,id=n', '-qmp', 'chardev:n'), [{ kind: 'stdio' }]);
});

const MISTAKES: readonly (readonly [string, string])[] = [
  ['-foo', '-foo: invalid option'],
  ['disk.img', 'disk.img: disk images are not supported'],
  ['-m', '-m: requires an argument'],
  ['-m x', "-m x: 'x' is not a size"],
  ['-M pc', 'unsupported machine type: "pc"\nUse -machine help to list supported machines'],
  ['-accel kvm', '-accel kvm: invalid accelerator kvm'],
  ['-display gtk', '-display gtk: there is no such thing here'],
  ['-serial stdio', '-serial stdio: there is no such thing here'],
  ['-smp 0', "-smp 0: '0' is not a number of processors"],
  ['-smp 4,tubes=2', "-smp 4,tubes=2: Invalid parameter 'tubes'"],
  ['-device {', '-device {: that is not JSON'],
  ['-device edu,=x', '-device edu,=x: "=x" has no name'],
  ['-global driver=x', "-global driver=x: Parameter 'property' is missing"],
  ['-chardev socket,id=a', '-chardev socket,id=a: it needs path, or host and port'],
  ['-chardev stdio', "-chardev stdio: Parameter 'id' is missing"],
  ['-chardev pty,id=a', "-chardev pty,id=a: 'pty' is not a valid char driver name"],
  ['-chardev null,id=a -chardev null,id=a', "-chardev null,id=a: Duplicate ID 'a' for chardev"],
  ['-mon chardev=x,mode=control', '-mon chardev=x,mode=control: chardev "x" not found'],
  ['-mon chardev=x', '-mon chardev=x: only mode=control is there'],
  ['-qtest pipe:x', "-qtest pipe:x: 'pipe:x' is not a character device that is known here"],
  ['-qmp tcp:h:99999', '-qmp tcp:h:99999: "99999" is not a port'],
  ['-run-with exit-with-parent=perhaps', '-run-with exit-with-parent=perhaps: exit-with-parent is not on or off'],
  ['-run-with user=me', "-run-with user=me: Invalid parameter 'user'"],
];

for (const [text, message] of MISTAKES) {
  test(`a mistake: ${text}`, t => {
    t.throws(() => parseCommandLine(text.split(' ')), { instanceOf: CommandLineError, message });
  });
}
