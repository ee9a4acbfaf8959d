/** A mistake on the command line: what is printed after the program's name. */
export class CommandLineError extends Error {
  override readonly name = 'CommandLineError';
}
