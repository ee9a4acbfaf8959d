/** A transcript whose tables, targets and registers lie elsewhere: every address that it mentions is moved, in whatever form it has. */
import type { Exchange, Transcript } from './transcripts.js';

export interface Move {
  readonly from: number;
  readonly size: number;
  readonly to: number;
}

export function relocate(transcript: Transcript, moves: readonly Move[]): Transcript {
  return { ...transcript, exchanges: transcript.exchanges.map(each => relocateExchange(each, moves)) };
}

function relocateExchange({ command, reply }: Exchange, moves: readonly Move[]): Exchange {
  const [name = '', ...words] = command.split(' ');
  const moved = words.map((word, index) =>
    name === 'write' && index === 2 ? littleEndian(word, moves) : text(word, moves),
  );
  return { command: [name, ...moved].join(' '), reply };
}

/** A number as the tests write it: lower case, no leading zeroes. */
function text(word: string, moves: readonly Move[]): string {
  const value = Number(word);
  const to = address(value, moves);
  return to === value ? word : `0x${to.toString(16)}`;
}

/** Four bytes that go to a register. */
function littleEndian(word: string, moves: readonly Move[]): string {
  const bytes = Buffer.from(word.slice(2), 'hex');
  bytes.writeUInt32LE(address(bytes.readUInt32LE(), moves));
  return `0x${bytes.toString('hex')}`;
}

function address(value: number, moves: readonly Move[]): number {
  const move = moves.find(({ from, size }) => value >= from && value < from + size);
  return move === undefined ? value : value - move.from + move.to;
}
