import { protocolVersion } from '../../module-runner/protocol.ts'
import type { ModuleSettings } from '../config/config.ts'
import { BerthError } from '../domain/errors.ts'
import type { ModuleManifest, ModuleSource } from '../domain/manifest.ts'
import { assembleManifest, type CatalogDefaults } from './assemble.ts'
import { sha256 } from './files.ts'
import { readModuleYaml } from './module-yaml.ts'

/** What an engine knows of an image that it has. */
export interface ImageFacts {
  /** Digest of the image's content. */
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  /** `amd64`, `arm64`, ... */
  readonly architecture: string
}

export interface ImageContext {
  readonly settings: Readonly<Record<string, ModuleSettings>>
  readonly defaults: CatalogDefaults
  /** Architecture of the engine; unchecked when absent. */
  readonly architecture?: string
}

const protocolLabel = 'dev.berth.protocol'
const manifestLabel = 'dev.berth.module'

/** A container that somebody else runs, as far as its manifest is concerned. */
export interface ContainerFacts {
  readonly container: string
  /** Who runs it, for people. */
  readonly group?: string
  readonly image: string
  readonly labels: Readonly<Record<string, string>>
}

/** Whose labels are read: in messages, and in the details of errors. */
interface Owner {
  readonly name: string
  readonly details: Readonly<Record<string, string>>
}

/**
 * An image as a module, by its labels (runner-protocol). Throws MANIFEST_INVALID for missing or wrong labels,
 * RUNNER_PROTOCOL for another version of the protocol, IMAGE_UNAVAILABLE for another architecture.
 */
export function manifestFromImage(reference: string, image: ImageFacts, context: ImageContext): ModuleManifest {
  const owner = { name: `image ${reference}`, details: { module: reference, image: reference } }
  if (image.labels[protocolLabel] === undefined && image.labels[manifestLabel] === undefined) {
    throw new BerthError(
      'MANIFEST_INVALID',
      `The image ${reference} is no module: it has neither the label ${protocolLabel} nor ${manifestLabel}.`,
      {
        ...owner.details,
        field: protocolLabel,
        remedy: `Add an image that speaks the runner protocol and carries ${protocolLabel}=${protocolVersion} and ${manifestLabel}; an image to run a service.py in is named as \`image\` in its module.yaml.`,
      },
    )
  }
  checkProtocol(owner, image.labels)
  if (context.architecture !== undefined && architecture(image.architecture) !== architecture(context.architecture)) {
    throw new BerthError(
      'IMAGE_UNAVAILABLE',
      `The image ${reference} is made for ${image.architecture}, and the engine runs ${architecture(context.architecture)}.`,
      { ...owner.details, remedy: `Build or name the image for ${architecture(context.architecture)}.` },
    )
  }
  return manifestFromLabels(owner, image.labels, { kind: 'image', reference }, reference, image.id, context)
}

/**
 * A container that somebody else runs as a module. Throws like `manifestFromImage`, naming the container. What it was
 * made of changes nothing here: nothing of it is made by Berth.
 */
export function manifestFromContainer(found: ContainerFacts, context: ImageContext): ModuleManifest {
  const { container, group, image, labels } = found
  const who = group === undefined ? '' : ` of ${group}`
  const owner = { name: `container ${container}${who}`, details: { module: container, container } }
  checkProtocol(owner, labels)
  const source = { kind: 'external', reference: group ?? `container ${container}` } as const
  return manifestFromLabels(owner, labels, source, image, '', context)
}

function manifestFromLabels(
  owner: Owner,
  labels: Readonly<Record<string, string>>,
  source: ModuleSource,
  image: string,
  content: string,
  context: ImageContext,
): ModuleManifest {
  const label = labels[manifestLabel]
  if (label === undefined) {
    throw new BerthError('MANIFEST_INVALID', `The ${owner.name} has no label ${manifestLabel}.`, {
      ...owner.details,
      field: manifestLabel,
      remedy: `Give it the label ${manifestLabel} holding at least {"id": ..., "models": [...]}.`,
    })
  }
  const yaml = readModuleYaml(label, {
    file: `${owner.details.container ?? owner.details.image} (label ${manifestLabel})`,
    subject: `The label ${manifestLabel} of the ${owner.name}`,
    details: owner.details,
    required: ['id', 'models'],
  })
  const id = yaml.id ?? image
  return assembleManifest({
    id,
    format: 'image',
    source,
    base: { kind: 'protocol', image },
    requirements: { extra: [], hash: sha256(''), empty: true },
    yaml,
    settings: (Object.hasOwn(context.settings, id) ? context.settings[id] : undefined) ?? {},
    defaults: context.defaults,
    content,
  })
}

function checkProtocol(owner: Owner, labels: Readonly<Record<string, string>>): void {
  const protocol = labels[protocolLabel]
  if (protocol === String(protocolVersion)) return
  const what =
    protocol === undefined ? `has no label ${protocolLabel}` : `speaks version "${protocol}" of the runner protocol`
  throw new BerthError('RUNNER_PROTOCOL', `The ${owner.name} ${what}; this Berth speaks version ${protocolVersion}.`, {
    ...owner.details,
    field: protocolLabel,
    remedy: `Use an image with the label ${protocolLabel}=${protocolVersion}.`,
  })
}

/** Docker, the kernel and Node name architectures differently. */
function architecture(name: string): string {
  const names: Readonly<Record<string, string>> = { x86_64: 'amd64', x64: 'amd64', aarch64: 'arm64' }
  return names[name] ?? name
}
