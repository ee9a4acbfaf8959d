/** One ioctl: its number, its name, and what its argument says. */
import type { Fields } from './field.js';
import type { PlainValue } from './format.js';
import type { StructType } from './struct.js';

export type IoctlValues = Record<string, PlainValue>;

/** One request number. */
export interface IoctlType {
  readonly name: string;
  readonly request: number;
  /** What a byte argument starts with; undefined if the argument is an integer, text or nothing. */
  readonly struct?: StructType | undefined;
  /** Decodes what follows the structure. `values` are the structure's. */
  readonly rest?: ((view: DataView, values: Readonly<IoctlValues>) => IoctlValues) | undefined;
}

/** An ioctl whose argument is, or starts with, `struct`. */
export function structIoctl<F extends Fields>(
  name: string,
  request: number,
  struct: StructType<F>,
  rest?: IoctlType['rest'],
): IoctlType {
  return { name, request, struct: struct as unknown as StructType, rest };
}
