const PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or folder',
  EACCES: 'not allowed',
  EISDIR: 'is a folder',
  ENOTDIR: 'is not in a folder',
  ENOSPC: 'there is no room for it',
};

/** What is wrong with a file, in words; undefined if the failure is of another kind. */
export function fileProblem(failure: unknown): string | undefined {
  const { code } = failure as NodeJS.ErrnoException;
  return code === undefined ? undefined : (PROBLEMS[code] ?? code);
}
