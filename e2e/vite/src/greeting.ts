// The module that a test edits on disk.
export const greeting: string = 'before the edit';
