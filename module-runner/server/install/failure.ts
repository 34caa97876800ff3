/** Why an environment could not be installed: what people read, and the last lines of the program that failed. */
export class InstallError extends Error {
  override readonly name = 'InstallError'
  readonly lines: readonly string[]

  constructor(message: string, lines: readonly string[] = []) {
    super(message)
    this.lines = lines
  }
}

const noSpace = /no space left on device|ENOSPC|os error 28|disk quota exceeded|EDQUOT/i

/** The disk is full: the one failure that no other way of installing mends, and that needs a remedy of its own. */
export function diskFull(text: string): boolean {
  return noSpace.test(text)
}

export const diskFullMessage =
  'the disk is full. Remove what is not needed any more (unused environments, images, models), or give it more room, and try again'
