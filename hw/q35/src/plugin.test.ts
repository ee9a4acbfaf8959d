import test from 'ava';
import { type AnyDeviceKind, type BoardKind, BoardKinds, DeviceKinds } from '@remora/pci';
import { Container } from 'inversify';
import { q35 } from './config.js';
import plugin from './plugin.js';

test('the plug-in brings the board and the bridges', t => {
  const container = new Container();
  container.load(plugin.module);
  const [board, ...more] = container.getAll<BoardKind<unknown>>(BoardKinds);
  t.deepEqual(more, []);
  t.is(board!.id, q35().driver);
  t.is(board!.ramBytes(board!.properties.parse('board', q35({ memory: 0x4000_0000 }).options)), 0x4000_0000);
  t.deepEqual(
    container.getAll<AnyDeviceKind>(DeviceKinds).map(({ id }) => id),
    ['pcie-root-port', 'x3130-upstream', 'xio3130-downstream', 'pcie-pci-bridge', 'pci-bridge'],
  );
});
