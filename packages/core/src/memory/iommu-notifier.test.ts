import test from 'ava';
import { IommuMapEvent, IommuNotifiers, IommuNotify, type IommuNotifier } from './iommu-notifier.js';

/** Writes down what it hears, as `frame+pages`, and answers with `result`. */
function recorder(wants: number, startFrame = 0, endFrame = 2 ** 52, result = 0): IommuNotifier & { heard: string[] } {
  const heard: string[] = [];
  return {
    wants,
    startFrame,
    endFrame,
    heard,
    notify: event => {
      heard.push(`${event.access === 0 ? 'unmap' : 'map'} ${event.frame}+${event.pages}`);
      return result;
    },
  };
}

function event(frame: number, pages: number, access: number): IommuMapEvent {
  return Object.assign(new IommuMapEvent(), { frame, pages, access });
}

const nothing = (): number => 0;

test('events go to those who want them', t => {
  const list = new IommuNotifiers(nothing);
  const both = recorder(IommuNotify.MAP | IommuNotify.UNMAP);
  const unmaps = recorder(IommuNotify.UNMAP);
  list.add(both);
  list.add(unmaps);
  t.is(list.notify(event(1, 1, 3)), 0);
  t.is(list.notify(event(1, 1, 0)), 0);
  t.deepEqual(both.heard, ['map 1+1', 'unmap 1+1']);
  t.deepEqual(unmaps.heard, ['unmap 1+1']);
});

test('wants is the union of what is registered now', t => {
  const list = new IommuNotifiers(nothing);
  t.is(list.wants, 0);
  const unmaps = list.add(recorder(IommuNotify.UNMAP));
  const maps = list.add(recorder(IommuNotify.MAP));
  t.is(list.wants, IommuNotify.MAP | IommuNotify.UNMAP);
  maps[Symbol.dispose]();
  t.is(list.wants, IommuNotify.UNMAP);
  unmaps[Symbol.dispose]();
  t.is(list.wants, 0);
});

test('a notifier hears of the frames in its half-open range', t => {
  const list = new IommuNotifiers(nothing);
  const part = recorder(IommuNotify.UNMAP, 0x10, 0x20);
  list.add(part);
  list.notify(event(0xf, 1, 0));
  list.notify(event(0x20, 1, 0));
  t.deepEqual(part.heard, []);
  list.notify(event(0x10, 1, 0));
  list.notify(event(0x1f, 1, 0));
  list.notify(event(0, 2 ** 52, 0));
  t.deepEqual(part.heard, ['unmap 16+1', 'unmap 31+1', `unmap 0+${2 ** 52}`]);
});

test('addresses above 2^53 find their range', t => {
  const list = new IommuNotifiers(nothing);
  const high = recorder(IommuNotify.MAP, 2 ** 52 - 1, 2 ** 52);
  list.add(high);
  list.notify(event(2 ** 52 - 1, 1, 1));
  list.notify(event(2 ** 52 - 2, 1, 1));
  t.deepEqual(high.heard, [`map ${2 ** 52 - 1}+1`]);
});

test('the first failure is reported and the others still hear', t => {
  const list = new IommuNotifiers(nothing);
  const last = recorder(IommuNotify.MAP);
  list.add(recorder(IommuNotify.MAP, 0, 2 ** 52, -12));
  list.add(recorder(IommuNotify.MAP, 0, 2 ** 52, -28));
  list.add(last);
  t.is(list.notify(event(0, 1, 3)), -12);
  t.is(last.heard.length, 1);
});

test('replay tells only the one who asks', t => {
  const list = new IommuNotifiers(notifier => notifier.notify(event(5, 1, 3)));
  const one = recorder(IommuNotify.MAP);
  const other = recorder(IommuNotify.MAP, 0, 2 ** 52, -5);
  list.add(one);
  list.add(other);
  t.is(list.replay(one), 0);
  t.deepEqual([one.heard, other.heard], [['map 5+1'], []]);
  t.is(list.replay(other), -5);
});

test('a notifier may leave while it is told something', t => {
  const list = new IommuNotifiers(nothing);
  const after = recorder(IommuNotify.UNMAP);
  const own = list.add({
    wants: IommuNotify.UNMAP,
    startFrame: 0,
    endFrame: 2 ** 52,
    notify: () => {
      own[Symbol.dispose]();
      return 0;
    },
  });
  list.add(after);
  list.notify(event(0, 1, 0));
  list.notify(event(0, 1, 0));
  t.is(after.heard.length, 2);
});

test('registering twice is a programming error', t => {
  const list = new IommuNotifiers(nothing);
  const one = recorder(IommuNotify.MAP);
  list.add(one);
  t.throws(() => list.add(one), { message: /registered already/ });
});
