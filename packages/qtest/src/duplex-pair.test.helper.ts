import { Duplex } from 'node:stream';

/** Two streams: what is written to one is read from the other. Each holds little, so that backpressure shows. */
export function duplexPair(): [Duplex, Duplex] {
  const pending = new Map<Duplex, () => void>();
  const make = (other: () => Duplex): Duplex =>
    new Duplex({
      read(this: Duplex) {
        const taken = pending.get(this);
        pending.delete(this);
        taken?.();
      },
      write(chunk: Buffer, _encoding, done) {
        const to = other();
        if (to.push(chunk)) done();
        else pending.set(to, done);
      },
      final(done) {
        other().push(null);
        done();
      },
    });
  const first: Duplex = make(() => second);
  const second: Duplex = make(() => first);
  return [first, second];
}
