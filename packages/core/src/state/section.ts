/** The tree that state is kept in: sections of named values, each section with the version of its layout. */

/** Numbers are exact: integers of up to 53 bits. Words are 32 bits each. */
export type StateValue = boolean | number | string | Uint8Array | Int32Array | StateSection | readonly StateSection[];

export interface StateSection {
  /** Of the fields' names and meanings. It grows when an older Remora could not load what is written now. */
  readonly version: number;
  /** In the order in which they were written. */
  readonly fields: Map<string, StateValue>;
}

export function emptySection(version: number): StateSection {
  return { version, fields: new Map() };
}

/** What a value is, for messages. */
export function kindOf(value: StateValue): string {
  if (typeof value === 'boolean') return 'a flag';
  if (typeof value === 'number') return 'a number';
  if (typeof value === 'string') return 'a text';
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (value instanceof Int32Array) return `${value.length} words`;
  return 'version' in value ? 'a section' : `a list of ${value.length}`;
}
