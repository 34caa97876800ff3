import { protocolVersion } from '../../module-runner/protocol.ts'
import type { ModuleSettings } from '../config/config.ts'
import { BerthError } from '../domain/errors.ts'
import type { ModuleManifest } from '../domain/manifest.ts'
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

/**
 * An image as a module, by its labels (runner-protocol). Throws MANIFEST_INVALID for missing or wrong labels,
 * RUNNER_PROTOCOL for another version of the protocol, IMAGE_UNAVAILABLE for another architecture.
 */
export function manifestFromImage(reference: string, image: ImageFacts, context: ImageContext): ModuleManifest {
  const details = { module: reference, image: reference }
  const protocol = image.labels[protocolLabel]
  const label = image.labels[manifestLabel]
  if (protocol === undefined && label === undefined) {
    throw new BerthError(
      'MANIFEST_INVALID',
      `The image ${reference} is no module: it has neither the label ${protocolLabel} nor ${manifestLabel}.`,
      {
        ...details,
        field: protocolLabel,
        remedy: `Add an image that speaks the runner protocol and carries ${protocolLabel}=${protocolVersion} and ${manifestLabel}; an image to run a service.py in is named as \`image\` in its module.yaml.`,
      },
    )
  }
  if (protocol !== String(protocolVersion)) throw wrongProtocol(reference, protocol, details)
  if (context.architecture !== undefined && architecture(image.architecture) !== architecture(context.architecture)) {
    throw new BerthError(
      'IMAGE_UNAVAILABLE',
      `The image ${reference} is made for ${image.architecture}, and the engine runs ${architecture(context.architecture)}.`,
      { ...details, remedy: `Build or name the image for ${architecture(context.architecture)}.` },
    )
  }
  if (label === undefined) {
    throw new BerthError('MANIFEST_INVALID', `The image ${reference} has no label ${manifestLabel}.`, {
      ...details,
      field: manifestLabel,
      remedy: `Build it with the label ${manifestLabel} holding at least {"id": ..., "models": [...]}.`,
    })
  }
  const yaml = readModuleYaml(label, {
    file: `${reference} (label ${manifestLabel})`,
    subject: `The label ${manifestLabel} of the image ${reference}`,
    details,
    required: ['id', 'models'],
  })
  const id = yaml.id ?? reference
  return assembleManifest({
    id,
    format: 'image',
    source: { kind: 'image', reference },
    base: { kind: 'protocol', image: reference },
    requirements: { extra: [], hash: sha256(''), empty: true },
    yaml,
    settings: (Object.hasOwn(context.settings, id) ? context.settings[id] : undefined) ?? {},
    defaults: context.defaults,
    content: image.id,
  })
}

function wrongProtocol(
  reference: string,
  protocol: string | undefined,
  details: Readonly<Record<string, string>>,
): BerthError {
  const what =
    protocol === undefined ? `has no label ${protocolLabel}` : `speaks version "${protocol}" of the runner protocol`
  return new BerthError(
    'RUNNER_PROTOCOL',
    `The image ${reference} ${what}; this Berth speaks version ${protocolVersion}.`,
    {
      ...details,
      field: protocolLabel,
      remedy: `Use an image with the label ${protocolLabel}=${protocolVersion}.`,
    },
  )
}

/** Docker, the kernel and Node name architectures differently. */
function architecture(name: string): string {
  const names: Readonly<Record<string, string>> = { x86_64: 'amd64', x64: 'amd64', aarch64: 'arm64' }
  return names[name] ?? name
}
