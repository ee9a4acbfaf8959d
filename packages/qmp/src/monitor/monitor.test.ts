import { Config } from '@remora/pci';
import test from 'ava';
import { TestClient } from '../client.test.helper.js';
import { FakeTarget } from '../target.test.helper.js';

async function rig(): Promise<{ target: FakeTarget; say: (line: string) => Promise<string[]> }> {
  const target = new FakeTarget();
  const client = await TestClient.ready(target);
  const say = async (line: string): Promise<string[]> => {
    const text = (await client.run('human-monitor-command', { 'command-line': line })) as string;
    return text === '' ? [] : text.replace(/\r\n$/, '').split('\r\n');
  };
  return { target, say };
}

test('info qtree: buses, devices, properties', async t => {
  const { say } = await rig();
  const tree = ['bus: main-bus', '  type System', '  dev: widget, id "w0"'];
  t.deepEqual(await say('info qtree'), [...tree, '    speed = 1 (0x1)', '    size = 4 (0x4)', '    class 0108']);
  t.deepEqual(await say('info qtree -b'), tree);
});

test('info pci: functions and their regions', async t => {
  const { target, say } = await rig();
  target.endpoint.config.write(Config.BAR0, 0xfe00_0000, 4);
  target.endpoint.config.write(Config.COMMAND, 2, 2);
  t.deepEqual(await say('info pci'), [
    '  Bus  0, device   1, function 3:',
    '    NVMe controller: PCI device 1234:11e8',
    '      PCI subsystem 1234:0077',
    '      BAR0: 32 bit memory at 0xfe000000 [0xfe000fff]',
    '      BAR2: 64 bit prefetchable memory (not mapped)',
    '      BAR4: I/O (not mapped)',
    '      id "w0"',
    '  Bus  0, device   3, function 0:',
    '    PCI bridge: PCI device 1b36:000c',
    '      BUS 0.',
    '      secondary bus 0.',
    '      subordinate bus 0.',
    '      IO range [0xf000, 0x0fff]',
    '      memory range [0xfff00000, 0x000fffff]',
    '      prefetchable memory range [0xfff00000, 0x000fffff]',
    '      id ""',
  ]);
});

test('info mtree shows each address space, a BAR where it is mapped', async t => {
  const { target, say } = await rig();
  target.endpoint.config.write(Config.BAR0, 0xfe00_0000, 4);
  target.endpoint.config.write(Config.COMMAND, 2, 2);
  const lines = await say('info mtree');
  t.is(lines[0], 'address-space: memory');
  t.true(
    lines.some(line => /^ +00000000fe000000-00000000fe000fff .*: registers$/.test(line)),
    lines.join('\n'),
  );
});

test('info iommu, name, status, version', async t => {
  const { target, say } = await rig();
  t.deepEqual(await say('info iommu'), ['unit 0', '  on']);
  t.deepEqual(await say('info name'), ['fake']);
  t.deepEqual(await say('info status'), ['VM status: paused (prelaunch)']);
  target.resume();
  t.deepEqual(await say('  info   status '), ['VM status: running']);
  t.deepEqual(await say('info version'), ['10.2.2test']);
});

test('mistakes are answered with text', async t => {
  const { say } = await rig();
  t.deepEqual(await say('nope'), ["unknown command: 'nope'"]);
  t.deepEqual(await say('info nope'), ["unknown command: 'info nope'"]);
  t.deepEqual(await say('info constructor'), ["unknown command: 'info constructor'"]);
  t.regex((await say('info pci x'))[0]!, /^pci: .*x/);
  t.deepEqual(await say(''), []);
  const help = await say('info');
  t.deepEqual(
    help.map(line => line.split(' ')[1]),
    ['iommu', 'mtree', 'name', 'pci', 'qtree', 'status', 'version'],
  );
  t.deepEqual(await say('help'), help);
});
