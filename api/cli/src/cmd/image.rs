//! `basalt image`: import, list, copy, export, aliases.

pub(crate) mod afar;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use basalt_client::{Client, ImageSource, ImageUpload};
use clap::{Args, Subcommand};

use basalt_api::dto::image::{Alias, Image, Put};
use basalt_api::dto::operation::Operation;

use crate::context::Context;
use crate::output::{self, Output};
use crate::table::Table;
use crate::{pairs, progress};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import an image from files, or from a URL
    Import(Import),
    /// List images
    #[command(visible_alias = "ls")]
    List {
        /// Only those whose alias or fingerprint begins so, or whose property has a value (KEY=VALUE)
        filters: Vec<String>,
        /// Those of all projects
        #[arg(long)]
        all_projects: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Show an image
    #[command(visible_alias = "show")]
    Info { image: String },
    /// Copy an image to another cluster or project, or from another cluster or image server to this one
    #[command(visible_alias = "cp")]
    Copy(afar::Copy),
    /// Look for newer images where these came from
    Refresh {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Write the files of an image into a folder
    Export {
        image: String,
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Edit an image as YAML: properties, public, profiles
    Edit { image: String },
    /// Delete images
    #[command(visible_alias = "rm")]
    Delete {
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Names of images
    #[command(subcommand)]
    Alias(AliasCommand),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The whole image, or its metadata when a root file system follows; or an https:// URL
    file: PathBuf,
    /// The root file system (squashfs, tar), or a virtual machine's disk
    rootfs: Option<PathBuf>,
    /// Give it this name; several are allowed
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Let a name that another image has move to this one, and be content with an image that is there already
    #[arg(long)]
    reuse: bool,
    /// Let clients that are not trusted download it
    #[arg(long)]
    public: bool,
    /// The root file system is a virtual machine's disk
    #[arg(long, requires = "rootfs")]
    vm: bool,
    /// A property
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AliasCommand {
    /// List aliases
    #[command(visible_alias = "ls")]
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Give an image a name
    Create {
        name: String,
        image: String,
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Give a name another name
    Rename { name: String, new_name: String },
    /// Take a name away
    Delete { name: String },
}

pub(crate) async fn run(context: &Context, command: Command) -> Result<()> {
    let client = context.client()?;
    match command {
        Command::Copy(args) => Box::pin(afar::copy(context, args)).await,
        Command::Refresh { images } => {
            for image in images {
                let fingerprint = client.find_image(&image).await.with_context(|| image.clone())?.value.fingerprint;
                let path = basalt_client::Path::of("images").segment(&fingerprint).segment("refresh");
                let operation = client.start(basalt_client::Method::POST, path, None::<&()>).await?;
                let ended = context.follow(&client, &operation, &format!("Refreshing {image}")).await?;
                let newer = ended.metadata.as_ref().and_then(|m| m.get("fingerprint")).and_then(|f| f.as_str());
                context.say(match newer {
                    Some(newer) => format!("{image} is {newer} now"),
                    None => format!("{image} is up to date"),
                })?;
            }
            Ok(())
        }
        Command::Import(args) => Box::pin(import(context, &client, args)).await,
        Command::List { filters, all_projects, output } => list(&client, (&filters, all_projects), output).await,
        Command::Info { image } => output::print(&output::yaml(&client.find_image(&image).await?.value)?),
        Command::Export { image, folder } => {
            let fingerprint = client.find_image(&image).await?.value.fingerprint;
            let (bar, feed) = progress::transfer("Exporting");
            let files = Box::pin(client.download_image(&fingerprint, &folder, feed)).await;
            bar.finish_and_clear();
            files?.iter().try_for_each(|file| context.say(file.display().to_string()))
        }
        Command::Edit { image } => {
            let now = client.find_image(&image).await?;
            let editable = Put {
                auto_update: Some(now.value.auto_update),
                properties: Some(now.value.properties),
                public: Some(now.value.public),
                expires_at: Some(now.value.expires_at),
                profiles: Some(now.value.profiles),
            };
            let wanted = crate::edit::edit(&editable, context.editor.as_deref())?;
            let path = basalt_client::Path::of("images").segment(&now.value.fingerprint);
            Ok(client.replace(path, &wanted, now.etag.as_deref()).await?)
        }
        Command::Delete { images } => {
            for image in images {
                let fingerprint = client.find_image(&image).await.with_context(|| image.clone())?.value.fingerprint;
                let operation = client.delete_image(&fingerprint).await.with_context(|| image.clone())?;
                context.follow(&client, &operation, &format!("Deleting {image}")).await?;
            }
            Ok(())
        }
        Command::Alias(command) => alias(&client, command).await,
    }
}

async fn import(context: &Context, client: &Client, args: Import) -> Result<()> {
    if let Some(url) = args.file.to_str().filter(|text| text.starts_with("https://")) {
        let mut post = afar::by_url(url, &args.alias, args.public);
        post.properties = pairs::map(&args.property)?;
        return afar::pull(context, &post, "Importing").await;
    }
    let source = match args.rootfs {
        Some(rootfs) => ImageSource::Split { metadata: args.file, rootfs, disk: args.vm },
        None => ImageSource::Unified(args.file),
    };
    let upload = ImageUpload { source, public: args.public, properties: pairs::map(&args.property)? };
    let (bar, feed) = progress::transfer("Sending");
    let started = Box::pin(client.upload_image(&upload, feed)).await;
    bar.finish_and_clear();
    let fingerprint = match context.follow(client, &started?, "Unpacking").await {
        Ok(ended) => fingerprint_of(&ended)?,
        Err(error) if args.reuse && error.to_string().contains("already exists") => upload.source.fingerprint()?,
        Err(error) => return Err(error),
    };
    for name in &args.alias {
        if args.reuse {
            match client.delete_image_alias(name).await {
                Err(error) if !error.is_not_found() => return Err(error.into()),
                _ => {}
            }
        }
        let alias = Alias { name: name.clone(), target: fingerprint.clone(), ..Alias::default() };
        client.create_image_alias(&alias).await.with_context(|| format!("alias {name}"))?;
    }
    context.say(format!("Imported {fingerprint}"))
}

pub(super) fn fingerprint_of(ended: &Operation) -> Result<String> {
    let fingerprint = ended.metadata.as_ref().and_then(|m| m.get("fingerprint")).and_then(|f| f.as_str());
    Ok(fingerprint.context("the member does not say which image it made")?.to_owned())
}

async fn list(client: &Client, (filters, all_projects): (&[String], bool), output: Output) -> Result<()> {
    let mut images = if all_projects { client.images_of_all().await? } else { client.images(None).await? };
    images.retain(|image| filters.iter().all(|filter| matches(image, filter)));
    output.list(&images, || {
        let headings =
            ["PROJECT", "ALIAS", "FINGERPRINT", "PUBLIC", "DESCRIPTION", "ARCHITECTURE", "TYPE", "SIZE", "UPLOADED"];
        let left_out = usize::from(!all_projects);
        let mut table = Table::new(headings.into_iter().skip(left_out));
        for image in &images {
            let names: Vec<&str> = image.aliases.iter().map(|alias| alias.name.as_str()).collect();
            let short = image.fingerprint.get(..12).unwrap_or(&image.fingerprint);
            let public = if image.public { "yes" } else { "no" };
            let description = image.properties.get("description").map_or("", String::as_str);
            let size = output::bytes(u64::try_from(image.size).unwrap_or(0));
            let (names, kind) = (names.join("\n"), image.kind.to_uppercase());
            let uploaded = output::time(&image.uploaded_at);
            let (project, architecture) = (&image.project, &image.architecture);
            let cells = [project, &names, short, public, description, architecture, &kind, &size, &uploaded];
            table.row(cells.into_iter().skip(left_out));
        }
        table
    })
}

fn matches(image: &Image, filter: &str) -> bool {
    match filter.split_once('=') {
        Some(("type", value)) => image.kind == value,
        Some(("architecture", value)) => image.architecture == value,
        Some((key, value)) => image.properties.get(key).is_some_and(|text| text == value),
        None => {
            image.fingerprint.starts_with(filter) || image.aliases.iter().any(|alias| alias.name.starts_with(filter))
        }
    }
}

async fn alias(client: &Client, command: AliasCommand) -> Result<()> {
    match command {
        AliasCommand::List { output } => {
            let aliases = client.image_aliases().await?;
            output.list(&aliases, || {
                let mut table = Table::new(["ALIAS", "FINGERPRINT", "TYPE", "DESCRIPTION"]);
                for alias in &aliases {
                    let short = alias.target.get(..12).unwrap_or(&alias.target);
                    table.row([&alias.name, short, &alias.kind.to_uppercase(), &alias.description]);
                }
                table
            })
        }
        AliasCommand::Create { name, image, description } => {
            let target = client.find_image(&image).await?.value.fingerprint;
            let alias = Alias { name, description, target, ..Alias::default() };
            Ok(client.create_image_alias(&alias).await?)
        }
        AliasCommand::Rename { name, new_name } => Ok(client.rename_image_alias(&name, &new_name).await?),
        AliasCommand::Delete { name } => Ok(client.delete_image_alias(&name).await?),
    }
}
